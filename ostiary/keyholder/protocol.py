"""What a recorder and a keyholder say to each other (msgpack, tagged by `say`), one request and one answer at
a time per frame.

Order of a connection:
    recorder                                   keyholder
    Hello                                 ->   TreeState: who it is, how far its frontier goes, what it must still be shown
    Resume (only to a fresh keyholder)    ->   TreeState: the signed checkpoint that it once made, and that tree's peaks
    CatchUp ...                           ->   TreeState: leaf hashes that were recorded while it was away
    Prime ...                             ->   Primed: documents that stay valid (approved modules), each checked by itself
    Batch ...                             ->   Done: leaves are in the tree; work whose entry is among them was evaluated

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
    """Show a keyholder that has no frontier the last checkpoint that was stored; empty for a ledger without
    entries.
    """

    note: bytes
    size: int
    peaks: bytes


class CatchUp(Message, frozen=True, kw_only=True):
    """Leaves that were recorded and that the keyholder has not seen; `first` is the index of the
    first one.
    """

    first: int
    leaf_hashes: bytes


class Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An approved module's manifest with the approval that makes it valid (an `ApproveModule` item as it was
    recorded).
    """

    approval: RawItem
    manifest: bytes


class Prime(Message, frozen=True, kw_only=True):
    """Give the keyholder documents to keep for this connection."""

    documents: tuple[Document, ...]


class Work(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item to evaluate: the entry at `offset` in the batch is the one that build_entry makes of it at
    `at_ms`.

    `attachment` is what rides beside the item: a sealed credential for `use`, a manifest for
    `approve-module`; else empty.
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
    """How far the keyholder's tree goes; `must_pass` is the size of the newest tree it ever signed, at which
    it compares roots.
    """

    origin: str
    fresh: bool
    size: int
    must_pass: int


class Primed(Message, frozen=True, kw_only=True):
    """The documents were accepted."""


class Result(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An item's outcome: `output` (bytes whose form the item's kind defines), or the rule by which it was
    refused, and why.
    """

    output: bytes = b""
    refused: str | None = None
    reason: str = ""


class Done(Message, frozen=True, kw_only=True):
    """Results in the order of the batch's work, and the signed note of the tree that holds its leaves."""

    note: bytes
    results: tuple[Result, ...]


class Refusal(Message, frozen=True, kw_only=True):
    """The keyholder will not go on: a lie, a bug or a rewound ledger. Always an alarm."""

    reason: str


ToKeyholder = Hello | Resume | CatchUp | Prime | Batch
FromKeyholder = TreeState | Primed | Done | Refusal

_encoder = msgspec.msgpack.Encoder()
_to_keyholder: msgspec.msgpack.Decoder[ToKeyholder] = msgspec.msgpack.Decoder(ToKeyholder)
_from_keyholder: msgspec.msgpack.Decoder[FromKeyholder] = msgspec.msgpack.Decoder(FromKeyholder)


def encode_message(message: ToKeyholder | FromKeyholder) -> bytes:
    """Encode for a channel."""
    return _encoder.encode(message)


def decode_request(body: bytes) -> ToKeyholder:
    """Parse what a recorder says; raises msgspec.DecodeError or msgspec.ValidationError."""
    return _to_keyholder.decode(body)


def decode_answer(body: bytes) -> FromKeyholder:
    """Parse what a keyholder says; raises msgspec.DecodeError or msgspec.ValidationError."""
    return _from_keyholder.decode(body)
