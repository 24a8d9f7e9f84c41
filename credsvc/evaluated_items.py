"""The acts of a credentials service that its keyholder evaluates: a use, a put, an approval.

Rules:
- `Use` names what was decided on: the policy rule and the digests of policy, module and manifest; the holes
  are in clear in the item and only as a salted digest in the ledger.
- `facts` is what the ledger tells of each act; entries are compared byte by byte, so a member is never
  renamed.
- A secret enters once, in `PutCredential`, encrypted by the client to the intake key (HPKE, RFC 9180); nobody
  but the keyholder opens it.

Digests are lower-case hex of SHA-256 where they name a document, raw bytes where they are only compared. The
acts that end in the recorder are in `items.py`, so that the keyholder's process does not load them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, cast

from ostiary.ledger.canonical import canonical
from ostiary.work.item import Facts, Item, Operator, Peer

if TYPE_CHECKING:
    from ostiary.ledger.canonical import JSON

# Strings and numbers of JSON: what the ledger digests must have one canonical form (RFC 8785).
HoleValue = str | int | list[dict[str, str]]
"""What a module may put into a hole; bytes travel as lower-case hex, times as epoch seconds."""


def salted_holes_digest(salt: bytes, holes: Mapping[str, HoleValue]) -> str:
    """SHA-256 (hex) over salt || canonical JSON of the holes: what an entry says of them.

    The salt keeps readers of the ledger from trying likely holes (hosts, paths) against the digest.
    """
    return hashlib.sha256(salt + canonical(cast("JSON", holes))).hexdigest()


class Use(Item, frozen=True, kw_only=True):
    """Apply an operation of a credential: evaluate one approved formula with these holes."""

    peer: Peer
    credential: str
    version: int
    operation: str
    module: str
    module_digest: str
    manifest_digest: str
    formula: str
    holes: dict[str, HoleValue]
    # Kept beside the entry, not in it: whoever deletes it has redacted the holes.
    salt: bytes
    # The `@id` of the policy rule that allowed it.
    rule: str
    policy_digest: str

    def facts(self) -> Facts:
        """All that policy decided on; of the holes only a salted digest."""
        return {
            "by": self.peer.facts(),
            "credential": self.credential,
            "formula": self.formula,
            "holes": salted_holes_digest(self.salt, self.holes),
            "manifest": self.manifest_digest,
            "module": self.module,
            "module_digest": self.module_digest,
            "operation": self.operation,
            "policy": self.policy_digest,
            "rule": self.rule,
            "version": self.version,
        }


class PutCredential(Item, frozen=True, kw_only=True):
    """Create a credential or its next version; `envelopes` (HPKE: enc || ciphertext) are by field name."""

    operator: Operator
    credential: str
    version: int
    module: str
    manifest_digest: str
    owner: str
    labels: tuple[str, ...]
    shareable: dict[str, str]
    ceiling: dict[str, tuple[str, ...]]
    envelopes: dict[str, bytes]

    def facts(self) -> Facts:
        """All that is public of the credential, and the names of its confidential fields."""
        return {
            "by": self.operator.facts(),
            "ceiling": {name: list(patterns) for name, patterns in self.ceiling.items()},
            "credential": self.credential,
            "fields": sorted(self.envelopes),
            "labels": list(self.labels),
            "manifest": self.manifest_digest,
            "module": self.module,
            "owner": self.owner,
            "shareable": dict(self.shareable),
            "version": self.version,
        }


class ApproveModule(Item, frozen=True, kw_only=True):
    """Activate a proposed module: `signature` is the approver key's (Ed25519) over `approval_statement`, and
    `approved_at` is in seconds since 1970.
    """

    operator: Operator
    module: str
    module_digest: str
    manifest_digest: str
    approved_at: int
    signature: bytes

    def facts(self) -> Facts:
        """The module by its digests, and the signature, which the approver's public key verifies."""
        return {
            "approved_at": self.approved_at,
            "by": self.operator.facts(),
            "manifest": self.manifest_digest,
            "module": self.module,
            "module_digest": self.module_digest,
            "signature": self.signature.hex(),
        }


def approval_statement(item: ApproveModule) -> bytes:
    """What the approver key signs: canonical JSON of the module's name, both digests and the time."""
    statement: Facts = {
        "approved_at": item.approved_at,
        "manifest": item.manifest_digest,
        "module": item.module,
        "module_digest": item.module_digest,
        # Whatever else this key may come to sign will have another name here.
        "statement": "ostiary-module-approval-v1",
    }
    return canonical(statement)
