"""Proofs as text: what proves, offline and years later, that an entry was logged.

Layout (C2SP tlog-proof):
    c2sp.org/tlog-proof@v1
    extra <base64>                  optional, not authenticated
    index <decimal>
    <base64 of a 32-byte hash>      none or more, from the leaf's sibling to the root's child: the audit path
                                    (an empty line)                          of RFC 6962 section 2.1.1
    <checkpoint>                    a signed note, verbatim

The entry itself is not part of it: whoever has the proof and the entry needs only the log's public key.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass

from ostiary.errors import BadInput
from ostiary.ledger.checkpoint import Checkpoint, VerifierKey, open_note, parse_size
from ostiary.ledger.note import decode_base64
from ostiary.ledger.proof import check_inclusion
from ostiary.ledger.tree import HASH_BYTES, leaf_hash

__all__ = ["TlogProof", "encode_proof", "open_proof", "parse_proof"]

_HEADER = "c2sp.org/tlog-proof@v1"
_MAX_LINES = 70  # header, extra, index and a path of at most 64 hashes


@dataclass(frozen=True, slots=True, kw_only=True)
class TlogProof:
    """An entry's index, its path and the signed checkpoint at which the path ends; `extra` proves nothing."""

    index: int
    path: tuple[bytes, ...]
    note: bytes
    extra: bytes | None = None


def encode_proof(proof: TlogProof) -> bytes:
    """Print a proof."""
    lines = [_HEADER]
    if proof.extra is not None:
        lines.append(f"extra {b64encode(proof.extra).decode()}")
    lines.append(f"index {proof.index}")
    lines += [b64encode(node).decode() for node in proof.path]
    return "\n".join(lines).encode() + b"\n\n" + proof.note


def parse_proof(data: bytes) -> TlogProof:
    """Read a proof; raises BadInput. Nothing is checked but its form, and of the note not even that."""
    # The first empty line ends the proof; the note, which has one of its own, is taken as it is.
    head, separator, note = data.partition(b"\n\n")
    try:
        lines = head.decode("ascii").split("\n", _MAX_LINES)
    except UnicodeDecodeError as exc:
        raise BadInput("the proof is not text", field="proof") from exc
    if not separator or lines.pop(0) != _HEADER:
        raise BadInput(f"the proof does not begin with {_HEADER!r}", field="proof")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "), field="extra")
    if not lines or not lines[0].startswith("index "):
        raise BadInput("the proof has no line for the index", field="index")
    index = parse_size(lines.pop(0).removeprefix("index "), field="index")
    return TlogProof(index=index, path=tuple(_parse_hash(line) for line in lines), note=note, extra=extra)


def open_proof(data: bytes, *, entry: bytes, keys: Iterable[VerifierKey]) -> tuple[Checkpoint, int]:
    """Return the checkpoint and the index at which a proof shows the entry.

    1. Read the proof (BadInput).
    2. Open its checkpoint: signed by the log's key (BadInput, NotProven).
    3. Check the path from the entry's leaf hash to the checkpoint's root (NotProven).
    """
    # 1.
    proof = parse_proof(data)
    # 2.
    checkpoint = open_note(proof.note, keys)
    # 3.
    check_inclusion(
        leaf=leaf_hash(entry), index=proof.index, size=checkpoint.size, path=proof.path, root=checkpoint.root
    )
    return checkpoint, proof.index


def _parse_hash(line: str) -> bytes:
    node = decode_base64(line, field="path")
    if len(node) != HASH_BYTES:
        raise BadInput(f"a hash of the path has {len(node)} bytes, not 32", field="path")
    return node
