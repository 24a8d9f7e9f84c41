"""Entries: a function of item, decision and time that begins with the item's digest and holds no secret."""

from __future__ import annotations

import json

import pytest

from ca import items as ca_items
from credsvc import items as credential_items
from credsvc.items import ApproveModule, PutCredential, Use, approval_statement, salted_holes_digest
from ostiary.work.entry import AUTHORIZED, Verdict, build_entry
from ostiary.work.item import Item, Operator, Peer, item_digest
from ostiary.work.item_encoding import encode_item

OPERATOR = Operator(uid=7, name="ann")
PEER = Peer(serial="0a", subsystem="component", node="n1.nodes.shop.example", agent="a1")
USE = Use(
    peer=PEER,
    credential="billing",
    version=3,
    operation="sign",
    module="aws-sigv4",
    module_digest="aa",
    manifest_digest="bb",
    formula="headers",
    holes={"path": "/marked-hole-value"},
    salt=b"\x05" * 16,
    rule="components-read-billing",
    policy_digest="cc",
)


def entry_of(item: Use | PutCredential, verdict: Verdict = AUTHORIZED, at_ms: int = 1) -> bytes:
    return build_entry(item, encode_item(item), verdict, at_ms=at_ms)


def test_an_entry_begins_with_its_items_digest() -> None:
    digest = item_digest(encode_item(USE)).hex()
    assert entry_of(USE).startswith(f'{{"act":"{digest}","at":1,'.encode())


def test_an_entry_says_who_used_what_by_which_rule() -> None:
    entry = json.loads(entry_of(USE))
    assert entry["by"] == {
        "agent": "a1",
        "node": "n1.nodes.shop.example",
        "serial": "0a",
        "subsystem": "component",
    }
    named = (
        "credential",
        "version",
        "operation",
        "module",
        "manifest",
        "formula",
        "rule",
        "policy",
        "decision",
    )
    assert [entry[name] for name in named] == [
        "billing",
        3,
        "sign",
        "aws-sigv4",
        "bb",
        "headers",
        "components-read-billing",
        "cc",
        "authorized",
    ]


def test_holes_appear_as_a_salted_digest_only() -> None:
    entry = entry_of(USE)
    assert b"marked-hole-value" not in entry
    assert json.loads(entry)["holes"] == salted_holes_digest(USE.salt, USE.holes)
    assert salted_holes_digest(b"\x06" * 16, USE.holes) != salted_holes_digest(USE.salt, USE.holes)


def test_a_denial_carries_rule_and_reason() -> None:
    entry = json.loads(entry_of(USE, Verdict("denied", "credential-disabled", "it is disabled")))
    assert (entry["decision"], entry["rule"], entry["reason"]) == (
        "denied",
        "credential-disabled",
        "it is disabled",
    )


def test_an_envelope_is_not_in_the_entry() -> None:
    put = PutCredential(
        operator=OPERATOR,
        credential="billing",
        version=1,
        module="aws-sigv4",
        manifest_digest="bb",
        owner="component",
        labels=(),
        shareable={"access_key_id": "AKIDEXAMPLE"},
        ceiling={},
        envelopes={"secret_key": b"marked-envelope"},
    )
    entry = entry_of(put)
    assert b"marked-envelope" not in entry
    assert json.loads(entry)["fields"] == ["secret_key"]


@pytest.mark.parametrize("lists", [ca_items, credential_items])
def test_every_kind_of_work_has_its_entry(lists: object) -> None:
    for name in ("FRONT", "ADMIN", "INTERNAL"):
        for kind in getattr(lists, name):
            assert kind.facts is not Item.facts


def test_an_approval_statement_names_everything_that_is_approved() -> None:
    item = ApproveModule(
        operator=OPERATOR, module="m", module_digest="aa", manifest_digest="bb", approved_at=9, signature=b""
    )
    assert json.loads(approval_statement(item)) == {
        "approved_at": 9,
        "manifest": "bb",
        "module": "m",
        "module_digest": "aa",
        "statement": "ostiary-module-approval-v1",
    }
