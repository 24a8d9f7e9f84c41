"""Checkpoints: the head of a ledger's tree as a signed note. Reading them, and whose signature they need.

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
from collections.abc import Iterable

from ostiary.errors import BadInput
from ostiary.ledger.checkpoint_signing import Checkpoint, sign
from ostiary.ledger.errors import NotProven
from ostiary.ledger.note import (
    KeyType,
    VerifierKey,
    add_cosignature,
    decode_base64,
    note_text,
    parse_verifier_key,
    verified_signatures,
    verifier_key,
)
from ostiary.ledger.tree import MAX_SIZE

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

# One text for one number: "07" or a digit of another script would be a second spelling of the same
# checkpoint.
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,18}", re.ASCII)


def open_note(note: bytes, keys: Iterable[VerifierKey]) -> Checkpoint:
    """Return the checkpoint of a note that its log signed.

    1. Check every signature of a known key; a single bad one refuses the note (NotProven).
    2. Read the checkpoint (BadInput).
    3. Find the log's own signature among them: type 0x01, by a key named as the origin (NotProven).
    Not checked: whether the size may follow an earlier one, how many witnesses cosigned.
    """
    # 1.
    signers = verified_signatures(note, keys)
    # 2.
    checkpoint = read_checkpoint(note)
    # 3. signed-note would take any known key's; a witness, or another log's key, must not vouch for this log.
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
        raise BadInput("the note's text is not a checkpoint; wanted origin, size and root hash", field="note")
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
