"""Checkpoints: the head of a ledger's tree as a signed note.

Rules (C2SP tlog-checkpoint):
- the text is origin, tree size in decimal and root hash in base64, one to a line; extension lines may follow;
- the origin is `<application>/ca` or `<application>/credentials`;
- the log's own signature must be there, by a key whose name is the origin: a witness alone vouches for no
  log, and neither does the key of another log of the same application.

Which of two checkpoints is newer, and whether they are consistent, is left to `ostiary.ledger.proof`; how
many witnesses are enough, to whoever reads them.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import BadInput
from ostiary.ledger.errors import NotProven
from ostiary.ledger.note import (
    KeyType,
    VerifierKey,
    add_cosignature,
    check_name,
    decode_base64,
    note_text,
    parse_verifier_key,
    sign_text,
    verified_signatures,
    verifier_key,
)
from ostiary.ledger.tree import HASH_BYTES, MAX_SIZE, Frontier

__all__ = [
    "Checkpoint",
    "KeyType",
    "VerifierKey",
    "add_cosignature",
    "cosignatures",
    "open_note",
    "parse_size",
    "parse_verifier_key",
    "read_checkpoint",
    "sign",
    "verifier_key",
]

_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head: the log's name, the number of its entries and the root hash over them."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.origin)  # as strict as a key's name, which carries the origin
        if not 0 <= self.size <= MAX_SIZE:
            raise BadInput(f"{self.size} is not a tree size; wanted 0 to {MAX_SIZE}", field="size")
        if len(self.root) != HASH_BYTES:
            raise BadInput("a root hash is 32 bytes long", field="root")
        if any(not line or not line.isprintable() for line in self.extensions):
            raise BadInput("an extension line is empty or holds control characters", field="extensions")

    @classmethod
    def of(cls, origin: str, frontier: Frontier) -> Checkpoint:
        """Return the checkpoint of a tree as it stands."""
        return cls(origin=origin, size=frontier.size, root=frontier.root())

    def text(self) -> str:
        """Return the note text, which is what signatures cover."""
        lines = (self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def sign(checkpoint: Checkpoint, name: str, private_key: Ed25519PrivateKey) -> bytes:
    """Return the note of a checkpoint, signed by the log's key; deterministic. Does not ask what was signed
    before.
    """
    if name != checkpoint.origin:
        raise BadInput(f"the key {name!r} cannot sign for the log {checkpoint.origin!r}", field="name")
    return sign_text(checkpoint.text(), name, private_key)


def open_note(note: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return the checkpoint of a note that its log signed.

    1. Check every signature of a known key; one bad one refuses all (NotProven).
    2. Read the checkpoint (BadInput).
    3. One of the signatures must be the log's: type 0x01, named as the origin (NotProven).
    Not checked: whether the size may follow an earlier one, how many witnesses cosigned.
    """
    signers = verified_signatures(note, keys)
    checkpoint = read_checkpoint(note)
    if not any(key.key_type is KeyType.LOG and key.name == checkpoint.origin for key in signers):
        raise NotProven(
            f"the checkpoint carries no signature of a known key of the log {checkpoint.origin!r}"
        )
    return checkpoint


def cosignatures(note: bytes, keys: Iterable[VerifierKey]) -> dict[VerifierKey, int]:
    """Return the known witnesses that cosigned, with their times in seconds; NotProven if a known key's is
    bad.
    """
    found = verified_signatures(note, [key for key in keys if key.key_type is KeyType.WITNESS])
    return {key: at_s for key, at_s in found.items() if at_s is not None}


def read_checkpoint(note: bytes) -> Checkpoint:
    """Return what a note says without checking who signed it: for those who wrote it themselves."""
    lines = note_text(note)[:-1].split("\n")
    if len(lines) < 3:
        raise BadInput("the note's text is no checkpoint; wanted origin, size and root hash", field="note")
    origin, size, root, *extensions = lines
    return Checkpoint(
        origin=origin,
        size=parse_size(size, field="size"),
        root=decode_base64(root, field="root"),
        extensions=tuple(extensions),
    )


def parse_size(text: str, *, field: str) -> int:
    """Read an ASCII decimal without leading zeroes, up to 2**63 - 1."""
    if not _DECIMAL.fullmatch(text) or int(text) > MAX_SIZE:
        raise BadInput(f"{text[:32]!r} is not a decimal number without leading zeroes", field=field)
    return int(text)
