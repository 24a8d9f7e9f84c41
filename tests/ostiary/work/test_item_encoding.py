"""Encoding an item: one encoding, within the bound."""

from __future__ import annotations

import pytest

from ostiary.errors import BadInput
from ostiary.work.item import MAX_ITEM_BYTES, ItemDecoder
from ostiary.work.item_encoding import encode_item
from ostiary.work.reports import Alarm, Refusals

DECODER = ItemDecoder((Alarm, Refusals))


def test_equal_items_have_equal_bytes_and_different_ones_have_not() -> None:
    first = encode_item(Alarm(what="a", detail="b"))
    assert first == encode_item(Alarm(detail="b", what="a"))
    assert first != encode_item(Alarm(what="a", detail="c"))
    assert DECODER.decode(first) == Alarm(what="a", detail="b")


def test_the_largest_item_passes_and_one_byte_more_is_refused_by_size() -> None:
    overhead = len(encode_item(Alarm(what="", detail="x" * 1000))) - 1000
    largest = Alarm(what="", detail="x" * (MAX_ITEM_BYTES - overhead))
    assert len(encode_item(largest)) == MAX_ITEM_BYTES
    assert DECODER.decode(encode_item(largest)) == largest
    with pytest.raises(BadInput, match=f"takes {MAX_ITEM_BYTES + 1} bytes once prepared"):
        encode_item(Alarm(what="", detail="x" * (MAX_ITEM_BYTES - overhead + 1)))
