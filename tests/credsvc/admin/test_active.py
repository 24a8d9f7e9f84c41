"""What is active: neither the proposed nor the retired."""

from __future__ import annotations

import pytest

from credsvc.admin.active import active_manifest, active_manifests, active_policy
from ostiary.errors import BadInput
from tests.support.credential_operator import OperatorVerbs


def test_an_empty_store_has_nothing_active(operator: OperatorVerbs) -> None:
    assert active_manifests(operator.engine) == {}
    assert active_policy(operator.engine) == ""


def test_a_proposed_module_is_not_active_yet(operator: OperatorVerbs) -> None:
    operator.propose("gogrid")
    operator.activate("aws-sigv4")
    assert list(active_manifests(operator.engine)) == ["aws-sigv4"]
    with pytest.raises(BadInput) as refused:
        active_manifest(operator.engine, "gogrid")
    assert refused.value.field == "module"


def test_one_active_manifest_by_its_name(operator: OperatorVerbs) -> None:
    digests = operator.activate("gogrid")
    assert active_manifest(operator.engine, "gogrid").digest == digests["manifest_digest"]
