"""What a recorder and a keyholder say to each other (msgpack, tagged by `say`), one request and one answer at
a time per frame.

Order of a connection, the recorder's message and what the keyholder answers:
1. Hello -> TreeState. Which ledger, how far its frontier goes, which tree it must still be shown.
2. Resume -> TreeState. Only for a keyholder that has just started: the last checkpoint that was stored, and
   that tree's peaks.
3. CatchUp -> TreeState. Leaf hashes that were recorded while it was away, until none is missing.
4. Prime -> Primed. Approved modules, one by one; the keyholder checks each by itself.
5. Batch -> Done. From then on: the leaves are in the tree, and the work whose entry is among them was
   evaluated.

A Refusal may answer any of them.

Hashes are SHA-256, 32 bytes; several of them are one concatenated byte string. A `note` is a C2SP signed note
(UTF-8 bytes).
"""

from __future__ import annotations

import msgspec

from ostiary.work.item import RawItem


class Message(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="say"):
    """Base of both directions."""


class Hello(Message, frozen=True, kw_only=True):
    """Ask for the keyholder's state."""


class Resume(Message, frozen=True, kw_only=True):
    """Show a keyholder that has no frontier the last checkpoint that was stored; all empty for a ledger
    without entries.
    """

    note: bytes
    size: int
    peaks: bytes


class CatchUp(Message, frozen=True, kw_only=True):
    """Leaves that were recorded and that the keyholder has not seen; `first` is the first one's index."""

    first: int
    leaf_hashes: bytes


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An approved module's manifest, and the approval that makes it valid: an `ApproveModule` item as it was
    recorded.
    """

    approval: RawItem
    manifest: bytes


class Prime(Message, frozen=True, kw_only=True):
    """Give the keyholder documents to keep for this connection."""

    documents: tuple[Document, ...]


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item to evaluate. The leaf at `offset` in the batch must be that of the entry which `build_entry`
    makes of the item at `at_ms` (Unix time).

    `attachment` rides beside the item: a sealed credential for `use`, a manifest for `approve-module`, the
    to-be-signed list for `publish-crl`; else empty.
    """

    offset: int
    at_ms: int
    item: RawItem
    attachment: bytes = b""


class Batch(Message, frozen=True, kw_only=True):
    """Leaves to append, and the work that they authorize."""

    first: int
    leaf_hashes: bytes
    work: tuple[Work, ...]


class TreeState(Message, frozen=True, kw_only=True):
    """How far the keyholder's tree goes; `fresh` before `Resume`. `must_pass` is the size of the newest tree
    that it ever signed, where it compares roots; 0 before the first.
    """

    origin: str
    fresh: bool
    size: int
    must_pass: int


class Primed(Message, frozen=True, kw_only=True):
    """The documents were accepted."""


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item's outcome: `output`, whose form the item's kind defines, or the rule by which it was refused,
    and why.
    """

    output: bytes = b""
    refused: str | None = None
    reason: str = ""


class Done(Message, frozen=True, kw_only=True):
    """Results in the order of the batch's work, and the signed note of the tree that holds its leaves."""

    note: bytes
    results: tuple[Result, ...]


class Refusal(Message, frozen=True, kw_only=True):
    """The keyholder will not go on: the recorder lies, has a bug, or its ledger was rewound. An alarm."""

    reason: str


ToKeyholder = Hello | Resume | CatchUp | Prime | Batch
FromKeyholder = TreeState | Primed | Done | Refusal

# Built once: making a decoder of a union costs more than decoding with it.
_encoder = msgspec.msgpack.Encoder()
_to_keyholder: msgspec.msgpack.Decoder[ToKeyholder] = msgspec.msgpack.Decoder(ToKeyholder)


def encode_message(message: ToKeyholder | FromKeyholder) -> bytes:
    """Encode for a channel."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> ToKeyholder:
    """Parse what a recorder says; raises msgspec.DecodeError or msgspec.ValidationError."""
    return _to_keyholder.decode(body)
