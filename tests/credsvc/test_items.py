"""The acts of a credentials service: closed lists by peer, and what the ledger tells of operators' acts."""

from __future__ import annotations

from itertools import combinations

import pytest

from credsvc import items
from credsvc.keyholder.evaluator import EVALUATED_KINDS
from ostiary.errors import BadInput
from ostiary.work.item import Item, ItemDecoder, Operator
from ostiary.work.item_encoding import encode_item

OPERATOR = Operator(uid=7, name="ann")
BY = OPERATOR.facts()


def test_nobody_may_ask_for_an_act_of_another_peer() -> None:
    for one, two in combinations((items.FRONT, items.ADMIN, items.INTERNAL), 2):
        assert not set(one) & set(two)


def test_what_the_keyholder_evaluates_can_be_asked_for() -> None:
    assert set(EVALUATED_KINDS) <= set(items.FRONT + items.ADMIN)


ACTS: list[tuple[Item, dict[str, object]]] = [
    (items.DisableCredential(operator=OPERATOR, credential="billing"), {"by": BY, "credential": "billing"}),
    (items.DeleteCredential(operator=OPERATOR, credential="billing"), {"by": BY, "credential": "billing"}),
    (
        items.ProposeModule(
            operator=OPERATOR,
            module="gogrid",
            module_digest="aa",
            manifest_digest="bb",
            manifest=b"marked-manifest",
            source=b"marked-source",
        ),
        {"by": BY, "module": "gogrid", "module_digest": "aa", "manifest": "bb"},
    ),
    (
        items.SetPolicy(operator=OPERATOR, policy_digest="cc", policy="marked-policy"),
        {"by": BY, "policy": "cc"},
    ),
]


@pytest.mark.parametrize(("item", "facts"), ACTS, ids=[type(item).__name__ for item, _ in ACTS])
def test_an_entry_names_documents_by_digest_and_quotes_none(item: Item, facts: dict[str, object]) -> None:
    assert item.facts() == facts
    assert "marked" not in repr(item.facts())


@pytest.mark.parametrize("item", [item for item, _ in ACTS], ids=lambda item: type(item).__name__)
def test_an_act_survives_its_way_as_bytes_and_is_taken_from_its_peer_only(item: Item) -> None:
    encoded = encode_item(item)
    assert ItemDecoder(items.ADMIN).decode(encoded) == item
    with pytest.raises(BadInput, match="not a work item of this service"):
        ItemDecoder(items.FRONT).decode(encoded)
