"""The closed set of acts of a credentials service.

Rules:
- `Use` names what was decided on: the policy rule and the digests of policy, module and manifest; the holes are in clear in the item and
  only as a salted digest in the ledger.
- A secret enters once, in `PutCredential`, encrypted by the client to the intake key (HPKE, RFC 9180); nobody but the keyholder opens it.

Digests are lower-case hex of SHA-256 where they name a document, raw bytes where they are only compared.
"""

from __future__ import annotations

from ostiary.work.ca_items import Alarm, Refusals, Refuse
from ostiary.work.item import Item, Operator, Peer

HoleValue = str | int | list[dict[str, str]]
"""What a module may put into a hole; bytes travel as lower-case hex, times as epoch seconds."""


# --- asked for by the front ---------------------------------------------------------------------------------------------------


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
    salt: bytes
    rule: str
    policy_digest: str


# --- asked for by an operator -------------------------------------------------------------------------------------------------


class PutCredential(Item, frozen=True, kw_only=True):
    """Create a credential or its next version; `sealed_fields` are HPKE envelopes (enc || ciphertext) by field name."""

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


class DisableCredential(Item, frozen=True, kw_only=True):
    """Refuse every further use of a credential, keep it."""

    operator: Operator
    credential: str


class DeleteCredential(Item, frozen=True, kw_only=True):
    """Forget a credential and its sealed secrets."""

    operator: Operator
    credential: str


class ProposeModule(Item, frozen=True, kw_only=True):
    """Store a credential module that someone wants approved; nothing can use it yet."""

    operator: Operator
    module: str
    module_digest: str
    manifest_digest: str
    manifest: bytes
    source: bytes


class ApproveModule(Item, frozen=True, kw_only=True):
    """Activate a proposed module: an Ed25519 signature by the approver key over (module digest, manifest digest, time)."""

    operator: Operator
    module: str
    module_digest: str
    manifest_digest: str
    approved_at: int
    signature: bytes


class SetPolicy(Item, frozen=True, kw_only=True):
    """Replace the service's Cedar policies by ones that were validated against the schema."""

    operator: Operator
    policy_digest: str
    policy: str


FRONT: tuple[type[Item], ...] = (Use, Refuse, Refusals)
ADMIN: tuple[type[Item], ...] = (
    PutCredential,
    DisableCredential,
    DeleteCredential,
    ProposeModule,
    ApproveModule,
    SetPolicy,
)
INTERNAL: tuple[type[Item], ...] = (Alarm,)
