"""What goes into a decision, and what comes out of it.

Rules:
- A decision is a function `(Rows, item, Terms) -> Decision`. It checks everything before it changes a row. A
  refused act changes nothing, except where the refusal itself says so: a contested token is void, a cloned
  lineage stops.
- A refusal is `Forbidden` with a rule of `ca.recorder.rules`, raised by checks, or a denial in the Decision
  where more than an entry follows.
- Pure: rows in memory, the time and the policy as arguments.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ostiary.timestamp import EpochSeconds
from ostiary.work.entry import AUTHORIZED, Verdict
from ostiary.work.item import Item


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """Time and policy, the same for all decisions of a turn; `grants` is the most that an agent of each
    sub-system may hold.
    """

    now_s: EpochSeconds
    node: str
    grants: Mapping[str, frozenset[str]]
    signature_algorithm_der: bytes
    max_lifetime_s: int
    max_node_lifetime_s: int

    def grant(self, subsystem: str) -> frozenset[str]:
        """The most that an agent of that sub-system may hold; nothing where policy doesn't name it."""
        return self.grants.get(subsystem, frozenset())


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """One act's outcome.

    `item` is recorded in the place of the one asked (None: that one itself). `attachment` rides beside the
    item to the keyholder; None means that the keyholder has no part in it. `known_output` is then the earlier
    signature, and `substitute` goes to the asker as it is. `also` are entries that follow from it; their
    changes are made already.
    """

    verdict: Verdict = AUTHORIZED
    item: Item | None = None
    attachment: bytes | None = None
    known_output: bytes = b""
    substitute: bytes = b""
    also: tuple[Item, ...] = ()


DONE = Decision()
"""Recorded, rows changed, nothing for the keyholder."""

SIGN = Decision(attachment=b"")
"""Recorded, and the keyholder signs what the item carries."""


def denied(rule: str, reason: str, *also: Item) -> Decision:
    """The refusal of an act that has consequences: `also` are their entries."""
    return Decision(verdict=Verdict("denied", rule=rule, reason=reason), also=also)
