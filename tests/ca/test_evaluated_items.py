"""The acts that a CA's keyholder signs: what the ledger tells of each, and what it never holds."""

from __future__ import annotations

import hashlib
import json

import pytest

from ca.evaluated_items import (
    SIGNED_KINDS,
    FrontCertificate,
    Prepared,
    PublishCRL,
    Redeem,
    Renew,
    Resign,
    ResponderCertificate,
    Spawn,
)
from ostiary.work.entry import AUTHORIZED, build_entry
from ostiary.work.item import Item, ItemDecoder, Peer
from ostiary.work.item_encoding import encode_item

TBS = b"marked to-be-signed bytes"
PREPARED = Prepared(
    serial="1f",
    subsystem="component",
    node="n1.shop.example",
    agent="a",
    capabilities=("credential:use",),
    endpoints=(),
    not_before=1,
    not_after=2,
    shard=0,
    spki_digest=b"\x07" * 32,
    tbs=TBS,
)
PEER = Peer(serial="2e", subsystem="certificate-manager", node="n1.shop.example", agent="m")
ITEMS: list[Item] = [
    Redeem(token_id="t1", token_digest=b"marked digest", address="192.0.2.7", certificate=PREPARED),
    Renew(serial="0a", certificate=PREPARED),
    Spawn(manager=PEER, spawner="0b", asked=("credential:use",), certificate=PREPARED),
    Resign(certificate=PREPARED),
    FrontCertificate(certificate=PREPARED),
    ResponderCertificate(serial="1f", not_after=2, spki_digest=b"\x07" * 32, tbs=TBS),
    PublishCRL(shard=-1, number=7, this_update=1, revoked=0, tbs_digest=hashlib.sha256(TBS).digest()),
]
DECODER = ItemDecoder(SIGNED_KINDS)


def test_each_kind_that_is_signed_is_tried_here() -> None:
    assert {type(item) for item in ITEMS} == set(SIGNED_KINDS)


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
def test_an_item_comes_back(item: Item) -> None:
    assert DECODER.decode(encode_item(item)) == item


@pytest.mark.parametrize("item", ITEMS, ids=lambda item: type(item).__name__)
def test_an_entry_names_what_will_be_signed_by_its_digest_and_holds_none_of_it(item: Item) -> None:
    entry = build_entry(item, encode_item(item), AUTHORIZED, at_ms=3)
    assert hashlib.sha256(TBS).hexdigest().encode() in entry
    assert b"marked" not in entry
    assert TBS.hex().encode() not in entry
    assert b"marked digest".hex().encode() not in entry


def test_a_certificate_is_told_in_plain_fields() -> None:
    entry = json.loads(build_entry(ITEMS[0], encode_item(ITEMS[0]), AUTHORIZED, at_ms=3))
    assert (entry["kind"], entry["token"], entry["address"]) == ("redeem", "t1", "192.0.2.7")
    assert entry["certificate"] == {
        "agent": "a",
        "capabilities": ["credential:use"],
        "endpoints": [],
        "node": "n1.shop.example",
        "not_after": 2,
        "not_before": 1,
        "serial": "1f",
        "spki": "07" * 32,
        "subsystem": "component",
        "tbs": hashlib.sha256(TBS).hexdigest(),
    }
