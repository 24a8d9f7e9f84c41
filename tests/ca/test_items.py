"""Items: what is written is read back, facts are JSON of the entry, and no channel may ask for the recorder's
own.
"""

from __future__ import annotations

import json

import msgspec
import pytest

from ca import items
from ca.items import Redeem, Revoke
from ostiary.ledger.canonical import canonical
from ostiary.work.item import Item, ItemDecoder
from ostiary.work.item_encoding import encode_item
from tests.support.ca_authority import AuthorityForTests
from tests.support.ca_decisions import OPERATOR, SECRET, RecorderInMemory

PREPARED = AuthorityForTests().prepared()
MINT = RecorderInMemory().mint()
REDEEM = Redeem(token_id="t" * 16, token_digest=SECRET, address="192.0.2.1", certificate=PREPARED)
EXAMPLES: list[Item] = [MINT, REDEEM, Revoke(operator=OPERATOR, serial="1f", reason="keyCompromise")]


@pytest.mark.parametrize("item", EXAMPLES, ids=lambda item: type(item).__name__)
def test_an_item_is_read_as_it_was_written(item: Item) -> None:
    assert ItemDecoder((*items.FRONT, *items.ADMIN)).decode(encode_item(item)) == item


@pytest.mark.parametrize("item", EXAMPLES, ids=lambda item: type(item).__name__)
def test_facts_are_what_canonical_json_can_say(item: Item) -> None:
    assert json.loads(canonical(item.facts())) == item.facts()


def test_an_entry_never_has_the_digest_of_a_tokens_secret() -> None:
    for item in (MINT, REDEEM):
        assert SECRET.hex() not in json.dumps(item.facts())


def test_what_is_not_said_keeps_its_encoding_in_entries() -> None:
    """Stores have NULL there since revision 0003; entries are compared byte by byte, so they keep theirs."""
    assert MINT.facts()["grants"] == {
        "address": "",
        "agent": MINT.agent,
        "capabilities": ["credential:use"],
        "endpoints": [],
        "lifetime_s": 7200,
        "node": MINT.node,
        "spki": "",
        "subsystem": "component-harness",
    }


def test_a_certificate_in_an_entry_is_named_by_digest_of_its_bytes() -> None:
    facts = PREPARED.facts()
    assert set(facts) == set(msgspec.structs.asdict(PREPARED)) - {"shard", "spki_digest"} | {"spki"}
    assert len(str(facts["tbs"])) == 64


def test_no_channel_may_ask_for_what_the_recorder_makes_itself() -> None:
    channels = [set(items.FRONT), set(items.RESPONDER), set(items.ADMIN), set(items.INTERNAL)]
    assert sum(map(len, channels)) == len(set().union(*channels))
