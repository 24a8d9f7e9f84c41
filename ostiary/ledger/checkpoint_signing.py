"""Signing a checkpoint: the head of a ledger's tree, by the log's own key.

Rules (C2SP tlog-checkpoint):
- the text is origin, tree size in decimal and root hash in base64, one to a line; extension lines may follow;
- the origin is `<application>/ca` or `<application>/credentials`, and the name of the key that signs.

Reading checkpoints is left to `ostiary.ledger.checkpoint`.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import BadInput
from ostiary.ledger.note_signing import check_name, sign_text
from ostiary.ledger.tree import HASH_BYTES, MAX_SIZE, Frontier

__all__ = ["Checkpoint", "sign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """A tree head: the log's name, the number of its entries and the root hash over them."""

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_name(self.origin)  # as strict as a key's name, because the key is named as the origin
        if not 0 <= self.size <= MAX_SIZE:
            raise BadInput(f"{self.size} is not a tree size; wanted 0 to {MAX_SIZE}", field="size")
        if len(self.root) != HASH_BYTES:
            raise BadInput("a root hash must be 32 bytes long", field="root")
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
    # So that no key of this application can vouch for another log of it (docs/adr/0005).
    if name != checkpoint.origin:
        raise BadInput(f"the key {name!r} cannot sign for the log {checkpoint.origin!r}", field="name")
    return sign_text(checkpoint.text(), name, private_key)
