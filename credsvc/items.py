"""The closed set of acts of a credentials service, by who may ask for them.

The recorder has one list for each of its peers, and takes nothing from a peer that is not on its list: a
thief in the front can't ask for an operator's act. The acts that the keyholder evaluates are in
`evaluated_items.py`.
"""

from __future__ import annotations

from credsvc.evaluated_items import (
    ApproveModule,
    HoleValue,
    PutCredential,
    Use,
    approval_statement,
    salted_holes_digest,
)
from ostiary.work.item import Facts, Item, Operator
from ostiary.work.reports import Alarm, Refusals, Refuse

__all__ = [
    "ADMIN",
    "FRONT",
    "INTERNAL",
    "ApproveModule",
    "DeleteCredential",
    "DisableCredential",
    "HoleValue",
    "ProposeModule",
    "PutCredential",
    "SetPolicy",
    "Use",
    "approval_statement",
    "salted_holes_digest",
]


class DisableCredential(Item, frozen=True, kw_only=True):
    """Refuse every further use of a credential, keep it."""

    operator: Operator
    credential: str

    def facts(self) -> Facts:
        """Who disabled which credential."""
        return {"by": self.operator.facts(), "credential": self.credential}


class DeleteCredential(Item, frozen=True, kw_only=True):
    """Delete a credential and its sealed secrets."""

    operator: Operator
    credential: str

    def facts(self) -> Facts:
        """Who deleted which credential."""
        return {"by": self.operator.facts(), "credential": self.credential}


class ProposeModule(Item, frozen=True, kw_only=True):
    """Store a credential module that is to be approved; nothing can use it yet."""

    operator: Operator
    module: str
    module_digest: str
    manifest_digest: str
    manifest: bytes
    source: bytes

    def facts(self) -> Facts:
        """The module by its digests."""
        return {
            "by": self.operator.facts(),
            "manifest": self.manifest_digest,
            "module": self.module,
            "module_digest": self.module_digest,
        }


class SetPolicy(Item, frozen=True, kw_only=True):
    """Replace the service's Cedar policies by others, which the admin process has validated."""

    operator: Operator
    policy_digest: str
    policy: str

    def facts(self) -> Facts:
        """Who set which policies."""
        return {"by": self.operator.facts(), "policy": self.policy_digest}


# Of the front: uses, and what it refused.
FRONT: tuple[type[Item], ...] = (Use, Refuse, Refusals)
# Of the admin process, for operators.
ADMIN: tuple[type[Item], ...] = (
    PutCredential,
    DisableCredential,
    DeleteCredential,
    ProposeModule,
    ApproveModule,
    SetPolicy,
)
# Of the recorder itself.
INTERNAL: tuple[type[Item], ...] = (Alarm,)
