"""The acts that every service records of itself: refusals by its front, and alarms.

They ask nothing of the keyholder; the entry is all that comes of them.
"""

from __future__ import annotations

from ostiary.work.item import Facts, Item, Peer


class Refuse(Item, frozen=True, kw_only=True):
    """The front refused a known peer; nothing else happens than this record."""

    by: Peer
    act: str
    target: str
    rule: str
    reason: str

    def facts(self) -> Facts:
        """Rule and reason stand in the entry as those of its decision."""
        return {"attempt": self.act, "by": self.by.facts(), "target": self.target}


class Refusals(Item, frozen=True, kw_only=True):
    """Refusals without an identity, counted over a minute per source and reason."""

    source: str
    reason: str
    count: int

    def facts(self) -> Facts:
        """`reason` is taken by the decision's own; here it is called `refusal`."""
        return {"count": self.count, "refusal": self.reason, "source": self.source}


class Alarm(Item, frozen=True, kw_only=True):
    """Something happened that cannot happen unless a part lies or is broken."""

    what: str
    detail: str

    def facts(self) -> Facts:
        """What happened, and where to look."""
        return {"alarm": self.what, "detail": self.detail}
