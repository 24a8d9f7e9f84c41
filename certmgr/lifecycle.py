"""The life of one agent's certificate: a table of (state, event), and what each step is to be done for.

Rules:
- Pure: `now` and `jitter` (0 <= jitter < 1) are arguments. What is not in the table is a fault of ours, not a
  choice.
- Work towards the authority is started by `Due` only, and `due` is then None until its outcome comes back as
  an event: one agent never has two requests under way.
- Renewal at two thirds of the lifetime, minus up to 5 % of it; retries back off from 0.5 s to 60 s (5 s while
  pending), at least half of it.
- While the authority is away an installed certificate keeps working until its notAfter.
- Work that was under way when a scope ended is waited for: what it still brings is revoked too.

    requested -> [pending ->] renewing -> proving -> active -> renewing ... -> ending -> ended
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

FIRST_RETRY: Final = timedelta(milliseconds=500)
LAST_RETRY: Final = timedelta(seconds=60)
LAST_PROOF_RETRY: Final = timedelta(seconds=5)  # an operator may have confirmed it meanwhile
RENEW_AT: Final = 2 / 3
RENEW_SPREAD: Final = 0.05


class AgentState(Enum):
    """Where a lineage stands, seen from the node."""

    REQUESTED = "requested"  # no certificate yet
    PENDING = "pending"  # a bootstrap certificate that is not proven yet
    ACTIVE = "active"
    RENEWING = "renewing"  # asking for the next generation; the one before still works
    PROVING = "proving"  # the next generation is signed, its key not used yet
    FINAL = "final"  # works until it expires, is not renewed any more
    ENDING = "ending"  # its scope has ended, the authority does not know yet
    ENDED = "ended"
    REFUSED = "refused"  # the authority said no
    EXPIRED = "expired"


class Action(Enum):
    """What is to be done now."""

    ASK = "ask"  # for the first certificate
    PROVE = "prove"  # that we are where the token was sent
    RENEW = "renew"
    USE = "use"  # the new key once towards the authority
    RETIRE = "retire"  # revoke
    PROMOTE = "promote"  # the next generation becomes the one we authenticate with
    INSTALL = "install"  # and the one that is delivered
    DISCARD = "discard"  # the next generation is worthless
    WITHDRAW = "withdraw"  # forget keys, turn claimers away


@dataclass(frozen=True, slots=True)
class Due:
    """The time of `Life.due` has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPending:
    """The authority signed; the certificate has yet to be proven."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedActive:
    """The authority signed, and the certificate is good at once."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Proven:
    """The authority counts the pending certificate as active."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The authority did not answer, or asked to come again."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The authority said no for good."""


@dataclass(frozen=True, slots=True)
class ScopeEnded:
    """The program is gone, was never started, or somebody with the right to asked for its end."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """The authority revoked the certificate."""


@dataclass(frozen=True, slots=True)
class Retired:
    """The authority revoked it because we asked, or had done so before."""


@dataclass(frozen=True, slots=True)
class Lapsed:
    """The notAfter of the certificate in use has passed."""


Event: TypeAlias = (
    Due
    | SignedPending
    | SignedActive
    | Proven
    | Unavailable
    | Refused
    | ScopeEnded
    | CutOff
    | Retired
    | Lapsed
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One lineage. `used` and `signed` are (notBefore, notAfter) of the certificate in use and of the next
    one.
    """

    state: AgentState
    due: datetime | None
    attempts: int = 0
    installed: bool = False
    used: tuple[datetime, datetime] | None = None
    signed: tuple[datetime, datetime] | None = None


class _When(Enum):
    NOW = "now"
    RETRY = "retry"
    RENEWAL = "renewal"
    NEVER = "never"  # an outcome is awaited, or nothing more happens


_S, _A, _W = AgentState, Action, _When
_Row: TypeAlias = tuple[AgentState, tuple[Action, ...], _When]

TABLE: Final[dict[tuple[AgentState, type[Event]], _Row]] = {
    (_S.REQUESTED, Due): (_S.REQUESTED, (_A.ASK,), _W.NEVER),
    (_S.REQUESTED, SignedPending): (_S.PENDING, (), _W.NOW),
    (_S.REQUESTED, SignedActive): (_S.ACTIVE, (_A.PROMOTE, _A.INSTALL), _W.RENEWAL),
    (_S.REQUESTED, Unavailable): (_S.REQUESTED, (), _W.RETRY),
    (_S.REQUESTED, Refused): (_S.REFUSED, (_A.WITHDRAW,), _W.NEVER),
    (_S.REQUESTED, ScopeEnded): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.PENDING, Due): (_S.PENDING, (_A.PROVE,), _W.NEVER),
    (_S.PENDING, Proven): (_S.RENEWING, (_A.PROMOTE,), _W.NOW),
    (_S.PENDING, Unavailable): (_S.PENDING, (), _W.RETRY),
    (_S.PENDING, Refused): (_S.REFUSED, (_A.WITHDRAW,), _W.NEVER),
    (_S.PENDING, ScopeEnded): (_S.ENDING, (), _W.NOW),
    (_S.PENDING, CutOff): (_S.REFUSED, (_A.WITHDRAW,), _W.NEVER),
    (_S.ACTIVE, Due): (_S.RENEWING, (), _W.NOW),
    (_S.ACTIVE, ScopeEnded): (_S.ENDING, (), _W.NOW),
    (_S.ACTIVE, CutOff): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.ACTIVE, Lapsed): (_S.EXPIRED, (_A.WITHDRAW,), _W.NEVER),
    (_S.RENEWING, Due): (_S.RENEWING, (_A.RENEW,), _W.NEVER),
    (_S.RENEWING, SignedPending): (_S.PROVING, (), _W.NOW),
    (_S.RENEWING, SignedActive): (_S.ACTIVE, (_A.PROMOTE, _A.INSTALL), _W.RENEWAL),
    (_S.RENEWING, Unavailable): (_S.RENEWING, (), _W.RETRY),
    (_S.RENEWING, Refused): (_S.FINAL, (_A.DISCARD,), _W.NEVER),
    (_S.RENEWING, ScopeEnded): (_S.ENDING, (), _W.NOW),
    (_S.RENEWING, CutOff): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.RENEWING, Lapsed): (_S.EXPIRED, (_A.WITHDRAW,), _W.NEVER),
    (_S.PROVING, Due): (_S.PROVING, (_A.USE,), _W.NEVER),
    (_S.PROVING, Proven): (_S.ACTIVE, (_A.PROMOTE, _A.INSTALL), _W.RENEWAL),
    (_S.PROVING, Unavailable): (_S.PROVING, (), _W.RETRY),
    # It was not used in time, so it is void; the generation before may renew again.
    (_S.PROVING, Refused): (_S.RENEWING, (_A.DISCARD,), _W.RETRY),
    (_S.PROVING, ScopeEnded): (_S.ENDING, (), _W.NOW),
    (_S.PROVING, CutOff): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.PROVING, Lapsed): (_S.EXPIRED, (_A.WITHDRAW,), _W.NEVER),
    (_S.FINAL, ScopeEnded): (_S.ENDING, (), _W.NOW),
    (_S.FINAL, CutOff): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.FINAL, Lapsed): (_S.EXPIRED, (_A.WITHDRAW,), _W.NEVER),
    (_S.ENDING, Due): (_S.ENDING, (_A.RETIRE,), _W.NEVER),
    (_S.ENDING, Retired): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.ENDING, Unavailable): (_S.ENDING, (), _W.RETRY),
    (_S.ENDING, Refused): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.ENDING, CutOff): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.ENDING, Lapsed): (_S.ENDED, (_A.WITHDRAW,), _W.NEVER),
    (_S.ENDING, Proven): (_S.ENDING, (), _W.NOW),
}

DEAD: Final = frozenset({AgentState.ENDED, AgentState.REFUSED, AgentState.EXPIRED})
LATE: Final = (SignedPending, SignedActive)
"""Outcomes that may still come after an end: what they bring is revoked (`step`)."""


def born(now: datetime) -> Life:
    """Return the life of an agent that was asked for just now."""
    return Life(state=AgentState.REQUESTED, due=now)


def resumed(life: Life, *, now: datetime, jitter: float) -> Life:
    """Return a life that was read back after a restart: what was under way is due at once, what was timed is
    timed anew.
    """
    if life.state in DEAD or life.state is AgentState.FINAL:
        return replace(life, due=None)
    when = _When.RENEWAL if life.state is AgentState.ACTIVE else _When.NOW
    return replace(life, due=_due(life, when, now=now, jitter=jitter))


def step(life: Life, event: Event, *, now: datetime, jitter: float) -> tuple[Life, tuple[Action, ...]]:
    """Return the life after an event, and what is to be done; AssertionError for what can't happen.

    After an end, outcomes of work that was under way are dropped, but a certificate that came too late is
    revoked.
    """
    if life.state in DEAD or (life.state is AgentState.ENDING and isinstance(event, LATE)):
        if isinstance(event, LATE):
            return replace(life, state=AgentState.ENDING, due=now, signed=_window(event)), ()
        return life, ()
    row = TABLE.get((life.state, type(event)))
    if row is None:
        # The end of a scope is told once; being told again, or late word of a request, changes nothing.
        if life.state is AgentState.ENDING or isinstance(event, Unavailable | Lapsed):
            return life, ()
        raise AssertionError(
            f"{type(event).__name__} cannot happen to a certificate that is {life.state.value}"
        )
    state, actions, when = row
    attempts = life.attempts + 1 if when is _W.RETRY else 0 if state is not life.state else life.attempts
    signed = _window(event) if isinstance(event, LATE) else life.signed
    used = signed if Action.PROMOTE in actions else life.used
    after = Life(
        state=state,
        due=None,
        attempts=attempts,
        installed=life.installed or Action.INSTALL in actions,
        used=used,
        signed=None if actions and {Action.PROMOTE, Action.DISCARD} & set(actions) else signed,
    )
    return replace(after, due=_due(after, when, now=now, jitter=jitter)), actions


def delivers(life: Life) -> bool:
    """Whether claimers are given the certificate in use."""
    return life.installed and life.state in {
        AgentState.ACTIVE,
        AgentState.RENEWING,
        AgentState.PROVING,
        AgentState.FINAL,
    }


def is_lapsed(life: Life, now: datetime) -> bool:
    """Whether the certificate in use has passed its notAfter."""
    return life.state not in DEAD and life.used is not None and now >= life.used[1]


def _window(event: SignedPending | SignedActive) -> tuple[datetime, datetime]:
    return event.not_before, event.not_after


def _due(life: Life, when: _When, *, now: datetime, jitter: float) -> datetime | None:
    match when:
        case _When.NOW:
            return now
        case _When.RETRY:
            longest = LAST_PROOF_RETRY if life.state is AgentState.PENDING else LAST_RETRY
            pause: timedelta = min(FIRST_RETRY * 2 ** min(life.attempts - 1, 16), longest)
            return now + pause * (0.5 + 0.5 * jitter)
        case _When.RENEWAL if life.used is not None:
            not_before, not_after = life.used
            wait: timedelta = (not_after - not_before) * (RENEW_AT - RENEW_SPREAD * jitter)
            return not_before + wait
        case _:
            return None
