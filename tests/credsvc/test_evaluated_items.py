"""The acts that the keyholder evaluates: the digest of holes, and what an approver signs."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import msgspec
import pytest

from credsvc.evaluated_items import ApproveModule, HoleValue, approval_statement, salted_holes_digest
from ostiary.work.item import Operator

HOLES: dict[str, HoleValue] = {"path": "/a", "t": 1, "rows": [{"name": "host", "value": "h"}]}
APPROVAL = ApproveModule(
    operator=Operator(uid=7, name="ann"),
    module="gogrid",
    module_digest="aa",
    manifest_digest="bb",
    approved_at=1_800_000_000,
    signature=b"",
)


def test_the_digest_of_holes_is_salted_canonical_json() -> None:
    text = b'{"path":"/a","rows":[{"name":"host","value":"h"}],"t":1}'
    assert salted_holes_digest(b"\x05" * 16, HOLES) == hashlib.sha256(b"\x05" * 16 + text).hexdigest()


def test_the_order_of_holes_does_not_count_and_the_salt_does() -> None:
    salt = b"\x05" * 16
    turned = dict(reversed(HOLES.items()))
    assert salted_holes_digest(salt, HOLES) == salted_holes_digest(salt, turned)
    assert salted_holes_digest(salt, HOLES) != salted_holes_digest(b"\x06" * 16, HOLES)


def test_the_statement_has_exactly_these_members() -> None:
    """An approver's tool elsewhere must be able to make the same bytes: none of this may change."""
    assert approval_statement(APPROVAL) == (
        b'{"approved_at":1800000000,"manifest":"bb","module":"gogrid","module_digest":"aa",'
        b'"statement":"ostiary-module-approval-v1"}'
    )


@pytest.mark.parametrize(
    "changed", [{"module": "x"}, {"module_digest": "x"}, {"manifest_digest": "x"}, {"approved_at": 1}]
)
def test_whatever_is_approved_is_in_the_statement(changed: dict[str, Any]) -> None:
    assert approval_statement(msgspec.structs.replace(APPROVAL, **changed)) != approval_statement(APPROVAL)


def test_who_hands_an_approval_in_is_not_in_the_statement() -> None:
    other = msgspec.structs.replace(APPROVAL, operator=Operator(uid=8, name="bob"), signature=b"s")
    assert approval_statement(other) == approval_statement(APPROVAL)


def test_an_entry_shows_the_signature_to_whoever_would_verify_it() -> None:
    facts = msgspec.structs.replace(APPROVAL, signature=b"\xab").facts()
    assert facts["signature"] == "ab"
    assert json.loads(json.dumps(facts)) == facts
