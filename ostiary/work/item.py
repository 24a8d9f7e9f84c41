"""What every work item is: one act, encoded once, on its way from an edge through the recorder to the
keyholder (docs/architecture.md, "Recorded, then done").

Rules:
- An item is a frozen msgspec Struct, tagged by `kind`; its msgpack bytes are made once, by the edge that
  asks, and travel unchanged: their SHA-256 is the item's digest, and an entry names its item by that digest.
- Unknown kinds and unknown fields are refused; so is an item that is larger than `MAX_ITEM_BYTES`.
- An item holds no secret: secrets ride beside it, sealed (`Attachment` of the keyholder's protocol).
- Each kind says in `facts` what the ledger tells of it; an act that says nothing of itself cannot be
  recorded.

Left to others: which channel carries which kind (the service's lists), what an item may change (its
decision).
"""

from __future__ import annotations

import hashlib
from typing import Any, NewType

import msgspec

from ostiary.errors import BadInput

RawItem = NewType("RawItem", bytes)
"""An item's msgpack bytes, exactly as its author encoded them."""
Facts = dict[str, Any]
"""Members of an entry: values that canonical JSON can say; never a secret, a MAC of one, or a hole."""

MAX_ITEM_BYTES = 48 * 1024
"""Three times the largest SigV4 request (64 headers of 256 bytes); far below a channel's frame."""


class Item(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    # The tag is in the ledger as an entry's kind, so a class is never renamed without giving its old tag.
    tag_field="kind",
    tag=lambda name: "".join(f"-{c.lower()}" if c.isupper() else c for c in name).lstrip("-"),
):
    """Base of all work items; the tag is the class name in kebab-case (`MintToken` is `mint-token`)."""

    def facts(self) -> Facts:
        """What the entry says of this act beside its digest, time, kind and decision."""
        raise AssertionError(f"{type(self).__name__} says nothing to the ledger")


class Peer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The agent that asks; the front read it from the client certificate of the TLS connection."""

    serial: str
    subsystem: str
    node: str
    agent: str

    def facts(self) -> Facts:
        """The peer as an entry names it."""
        return {"agent": self.agent, "node": self.node, "serial": self.serial, "subsystem": self.subsystem}


class Operator(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The person who asks; the admin process took the user from its local socket (SO_PEERCRED)."""

    uid: int
    name: str

    def facts(self) -> Facts:
        """The operator as an entry names it."""
        return {"operator": self.name, "uid": self.uid}


def kind_of(item: Item) -> str:
    """The item's tag, as it stands in the ledger."""
    tag = type(item).__struct_config__.tag
    if not isinstance(tag, str):
        raise AssertionError("a work item has no tag")
    return tag


def item_digest(raw: RawItem) -> bytes:
    """SHA-256 (32 bytes) of an item as it was encoded by its author."""
    return hashlib.sha256(raw).digest()


class ItemDecoder:
    """Decodes the items of one closed union; anything else is BadInput.

    It checks form and range once, here; what handles an item afterwards need not check again.
    """

    def __init__(self, kinds: tuple[type[Item], ...]) -> None:
        # msgspec decodes a union of tagged structs by a look-up of the tag: one pass, whatever the number of
        # kinds.
        union: object = kinds[0]
        for kind in kinds[1:]:
            union = union | kind
        self._decoder: msgspec.msgpack.Decoder[Item] = msgspec.msgpack.Decoder(union)

    def decode(self, raw: bytes) -> Item:
        """Parse an item; raises BadInput naming the path of the field at fault."""
        # Before the decoder allocates anything for it.
        if len(raw) > MAX_ITEM_BYTES:
            raise BadInput(f"a work item of {len(raw)} bytes, wanted at most {MAX_ITEM_BYTES}")
        # msgspec's message names the path and the type wanted; it quotes a value only of a closed choice, and
        # no secret is one.
        try:
            return self._decoder.decode(raw)
        except (msgspec.DecodeError, msgspec.ValidationError) as exc:
            raise BadInput(f"not a work item of this service: {exc}") from exc
