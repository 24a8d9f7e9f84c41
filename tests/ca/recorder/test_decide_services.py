"""The CA's own certificates: its front names this CA on its node and carries nothing, its responder lives a
day.
"""

from __future__ import annotations

from typing import Any

import pytest

from ca.items import FrontCertificate, ResponderCertificate
from tests.support.ca_decisions import RecorderInMemory, replaced

CA_NODE = "ca.shop.example"


@pytest.fixture
def recorder() -> RecorderInMemory:
    return RecorderInMemory()


def front(recorder: RecorderInMemory, **changed: Any) -> FrontCertificate:
    right = {"subsystem": "certificate-authority", "node": CA_NODE, "capabilities": ()}
    return FrontCertificate(certificate=recorder.prepared(**right | changed))


def responder(recorder: RecorderInMemory, **changed: Any) -> ResponderCertificate:
    right = ResponderCertificate(
        serial="77", not_after=recorder.now_s + 86400, spki_digest=b"\x01" * 32, tbs=b"tbs"
    )
    return replaced(right, changed)


def test_the_fronts_certificate_is_active_at_once_and_can_be_revoked(recorder: RecorderInMemory) -> None:
    item = front(recorder)
    assert recorder.decide(item).attachment == b""
    row = recorder.row(item.certificate.serial)
    assert (row.status, row.activated_by, row.token_id, row.parent) == ("active", "issue", None, None)
    assert recorder.rule(recorder.revoke(row.serial)) == ""


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"subsystem": "component"}, "front-identity"),
        ({"node": "n1.nodes.shop.example"}, "front-identity"),
        ({"capabilities": ("ledger:read",)}, "front-identity"),
        ({"lifetime_s": 86401}, "certificate-lifetime"),
    ],
)
def test_one_thing_wrong_with_the_fronts(
    recorder: RecorderInMemory, changed: dict[str, Any], rule: str
) -> None:
    assert recorder.rule(front(recorder, **changed)) == rule
    assert not recorder.rows.certificates


def test_the_responders_certificate_is_signed_and_has_no_row(recorder: RecorderInMemory) -> None:
    assert recorder.decide(responder(recorder)).attachment == b""
    assert not recorder.rows.certificates


def test_one_thing_wrong_with_the_responders(recorder: RecorderInMemory) -> None:
    now_s = recorder.now_s
    assert recorder.rule(responder(recorder, not_after=now_s + 86401)) == "responder-times"
    assert recorder.rule(responder(recorder, not_after=now_s)) == "responder-times"
    taken = recorder.enrolled().serial
    assert recorder.rule(responder(recorder, serial=taken)) == "certificate-serial-taken"
