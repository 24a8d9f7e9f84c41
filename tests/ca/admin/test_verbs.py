"""All verbs of an operator, and the CA's status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest

from ca.admin.verbs import make_verbs
from ostiary.recorder.client import RecorderClient
from tests.support.ca_operator import OperatedCA


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatedCA]:
    made = OperatedCA(tmp_path_factory.mktemp("operated"))
    yield made
    made.close()


def test_the_verbs_are_these(ca: OperatedCA) -> None:
    names = set(make_verbs(ca.home, cast("RecorderClient", ca.recorder), ca.engine))
    assert {name for name in names if not name.startswith("ledger.")} == {
        "token.create",
        "token.list",
        "token.revoke",
        "bootstrap",
        "certificate.list",
        "certificate.show",
        "certificate.revoke",
        "confirm",
        "status",
    }
    assert "ledger.checkpoint" in names


def test_the_status_counts_what_the_store_has(ca: OperatedCA) -> None:
    new = ca.call("status")
    assert (new["application"], new["url"]) == ("shop.example", "https://127.0.0.1:8443")
    assert (new["revocations"], new["shard"]) == (0, None)
    serial = ca.redeem(ca.mint(), "component-harness")
    ca.call("certificate.revoke", serial=serial)
    used = ca.call("status")
    assert (used["revocations"], used["shard"]) == (1, {"number": 1, "certificates": 1})
