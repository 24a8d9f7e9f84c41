"""What a decision is made with and what it comes to.

Rules:
- A decision is a function `(Rows, item, Terms) -> Decision`. It checks everything before it changes a row; a
  refused act changes nothing, but for the contest of a token, which says so.
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
    """What holds for all decisions of a turn; `grants` is the most that an agent of each sub-system
    may hold.
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

    `item` is recorded in the place of the one asked (None: that one itself). `attachment` is None where the
    keyholder has no part, else what rides beside the item. `also` are entries that follow from it; their
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
    """A refusal that has consequences."""
    return Decision(verdict=Verdict("denied", rule=rule, reason=reason), also=also)
