"""The acts that every service records of itself: refusals by its front, and alarms.

The keyholder takes no part in them; the entry is all that comes of them.
"""

from __future__ import annotations

from ostiary.work.item import Facts, Item, Peer


class Refuse(Item, frozen=True, kw_only=True):
    """The front refused a known peer; nothing happens but this record."""

    by: Peer
    act: str
    target: str
    rule: str
    reason: str

    def facts(self) -> Facts:
        """Rule and reason stand in the entry as those of its decision."""
        return {"attempt": self.act, "by": self.by.facts(), "target": self.target}


class Refusals(Item, frozen=True, kw_only=True):
    """Refusals of peers without an identity, counted over a minute for each source and reason: one entry, not
    one for each attempt, so that a stranger cannot fill the ledger.
    """

    source: str
    reason: str
    count: int

    def facts(self) -> Facts:
        """The reason is called `refusal` here: an entry's own `reason` is that of the recorder's decision."""
        return {"count": self.count, "refusal": self.reason, "source": self.source}


class Alarm(Item, frozen=True, kw_only=True):
    """Something happened that cannot happen unless a part of the service lies or is broken."""

    what: str
    detail: str

    def facts(self) -> Facts:
        """What happened, and where to look."""
        return {"alarm": self.what, "detail": self.detail}
