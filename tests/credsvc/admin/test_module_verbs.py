"""The verbs over modules: what is checked before it is recorded, and which version is shown."""

from __future__ import annotations

import hashlib

import msgspec
import pytest
from sqlalchemy import Connection

from credsvc.items import ApproveModule, ProposeModule
from ostiary.errors import BadInput, NotFound
from ostiary.recorder.batch import ask
from tests.support.credential_decisions import (
    APPROVE,
    F2,
    M1,
    M2,
    NOW_MS,
    PROPOSE,
    RECORDING,
    decide,
    settle,
)
from tests.support.credential_operator import LIBRARY, OperatorVerbs, approval_of

GOGRID = (LIBRARY / "gogrid" / "manifest.toml").read_bytes()


def test_a_proposal_names_the_digests_of_what_it_carries(operator: OperatorVerbs) -> None:
    source = (LIBRARY / "gogrid" / "module.py").read_bytes()
    answer = operator.call("module.propose", manifest=GOGRID, source=source)
    (item,) = operator.items
    assert isinstance(item, ProposeModule)
    assert (item.module, item.manifest, item.source) == ("gogrid", GOGRID, source)
    assert item.module_digest == answer["module_digest"] == hashlib.sha256(source).hexdigest()
    assert answer["manifest_digest"] == hashlib.sha256(GOGRID).hexdigest()


def test_code_that_is_no_text_is_not_proposed(operator: OperatorVerbs) -> None:
    with pytest.raises(BadInput) as refused:
        operator.call("module.propose", manifest=GOGRID, source=b"\xff")
    assert refused.value.field == "source"
    assert not operator.items


def test_a_manifest_that_does_not_parse_is_not_proposed(operator: OperatorVerbs) -> None:
    with pytest.raises(BadInput):
        operator.call("module.propose", manifest=b"name = 1", source=b"")
    assert not operator.items


def test_an_approval_carries_the_signature_to_the_recorder(operator: OperatorVerbs) -> None:
    arguments = approval_of(operator.propose("gogrid"))
    operator.call("module.approve", **arguments)
    item = operator.items[-1]
    assert isinstance(item, ApproveModule)
    assert (item.signature, item.approved_at) == (arguments["signature"], arguments["approved_at"])


def test_what_was_not_proposed_cannot_be_approved(operator: OperatorVerbs) -> None:
    arguments = approval_of(operator.propose("gogrid"))
    with pytest.raises(NotFound):
        operator.call("module.approve", **{**arguments, "manifest_digest": F2})
    assert len(operator.items) == 1


def test_a_module_that_would_invalidate_the_policies_is_not_approved(operator: OperatorVerbs) -> None:
    """The second version lacks the operation that a policy names."""
    operator.activate("gogrid")
    operator.call(
        "policy.set", policy='@id("r") permit(principal, action == Action::"gogrid/sign", resource);'
    )
    renamed = GOGRID.replace(b"operations.sign", b"operations.stamp")
    proposed = operator.call("module.propose", manifest=renamed, source=b"")
    recorded = len(operator.items)
    with pytest.raises(BadInput, match="do not fit the schema"):
        operator.call("module.approve", **approval_of(proposed))
    assert len(operator.items) == recorded


def test_a_module_is_shown_as_proposed_last_with_what_is_in_use(operator: OperatorVerbs) -> None:
    with pytest.raises(NotFound):
        operator.call("module.show", name="gogrid")
    operator.record(lambda tx: decide(tx, PROPOSE))
    assert operator.call("module.show", name="gogrid")["active_module_digest"] is None
    operator.record(lambda tx: settle(tx, APPROVE))
    second = msgspec.structs.replace(
        PROPOSE, module_digest=M2, manifest_digest=F2, manifest=b"second", source=b"other"
    )

    def propose_later(tx: Connection) -> None:
        RECORDING.decide(tx, [ask(second)], now_ms=NOW_MS + 1)

    operator.record(propose_later)
    shown = operator.call("module.show", name="gogrid")
    assert (shown["state"], shown["module_digest"], shown["active_module_digest"]) == ("proposed", M2, M1)
    assert (shown["manifest"], shown["source"]) == ("second", "other")


def test_a_list_has_every_version_with_its_state(operator: OperatorVerbs) -> None:
    operator.activate("gogrid")
    operator.propose("aws-sigv4")
    listed = operator.call("module.list")
    assert [(row["name"], row["state"]) for row in listed] == [
        ("aws-sigv4", "proposed"),
        ("gogrid", "active"),
    ]
