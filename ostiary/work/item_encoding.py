"""Encoding a work item: once, by the edge that asks for it or the recorder that makes it. A keyholder reads
items and makes none.
"""

from __future__ import annotations

import msgspec

from ostiary.errors import BadInput
from ostiary.work.item import MAX_ITEM_BYTES, Item, RawItem

# msgpack in order of declaration, defaults included: one item has one encoding, and its digest is of these
# bytes.
_encoder = msgspec.msgpack.Encoder()


def encode_item(item: Item) -> RawItem:
    """Encode an item for a channel (msgpack, fields in order of declaration).

    Raises BadInput where the result exceeds MAX_ITEM_BYTES.
    """
    raw = _encoder.encode(item)
    if len(raw) > MAX_ITEM_BYTES:
        raise BadInput(f"the request takes {len(raw)} bytes once prepared, wanted at most {MAX_ITEM_BYTES}")
    return RawItem(raw)
