"""The life of one agent's certificate: a table of (state, event), and the actions of each step.

Rules:
- Pure: `now` and `jitter` (0 <= jitter < 1) are arguments. A pair that is not in the table is a programming
  error.
- Only `Due` starts work towards the authority, and `due` is None from then until the outcome returns as an
  event: no agent ever has two requests under way.
- Renewal starts at two thirds of the lifetime, minus up to 5 % of it; retries back off from 0.5 s to 60 s
  (5 s while pending), each shortened by up to half.
- While the authority is away, an installed certificate keeps working until its notAfter.
- Work that is under way when a scope ends is awaited, and a certificate that it still brings is revoked.

    requested -> [pending ->] renewing -> proving -> active -> renewing ... -> ending -> ended
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Final, TypeAlias

# Exponential backoff with jitter, so that the nodes of an application do not return together after an outage
# of their authority.
FIRST_RETRY: Final = timedelta(milliseconds=500)
LAST_RETRY: Final = timedelta(seconds=60)
LAST_PROOF_RETRY: Final = timedelta(seconds=5)  # an operator may have confirmed it meanwhile
# A third of the lifetime is left for an outage of the authority; the spread keeps certificates that were
# issued together from being renewed together (RFC 9773 has the same aim in ACME).
RENEW_AT: Final = 2 / 3
RENEW_SPREAD: Final = 0.05


class AgentState(Enum):
    """The state of a lineage, as the node sees it."""

    REQUESTED = "requested"  # no certificate yet
    PENDING = "pending"  # a bootstrap certificate that is not proven yet
    ACTIVE = "active"
    RENEWING = "renewing"  # the next generation is requested; the current one still works
    PROVING = "proving"  # the next generation is signed, but its key not used yet
    FINAL = "final"  # works until it expires; the authority refuses to renew it
    ENDING = "ending"  # its scope has ended, but the authority does not know yet
    ENDED = "ended"
    REFUSED = "refused"  # the authority refused the first certificate
    EXPIRED = "expired"


class Action(Enum):
    """An action of a step: the first five are the conductor's, the rest change the record."""

    ASK = "ask"  # request the first certificate
    PROVE = "prove"  # prove that this node has the address that the token was made for
    RENEW = "renew"
    USE = "use"  # use the new key once towards the authority
    RETIRE = "retire"  # revoke
    PROMOTE = "promote"  # the next generation becomes the one that authenticates
    INSTALL = "install"  # and the one that is delivered
    DISCARD = "discard"  # drop the next generation
    WITHDRAW = "withdraw"  # forget the keys and refuse further claims


@dataclass(frozen=True, slots=True)
class Due:
    """The time of `Life.due` has come."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedPending:
    """The authority signed a certificate that has yet to be proven."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedActive:
    """The authority signed a certificate that is active at once."""

    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Proven:
    """The authority counts the pending certificate as active."""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """The authority did not answer, or asked to retry."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The authority refused for good."""


@dataclass(frozen=True, slots=True)
class ScopeEnded:
    """The program has ended or never started, or somebody who may has ended the agent."""


@dataclass(frozen=True, slots=True)
class CutOff:
    """The authority revoked the certificate."""


@dataclass(frozen=True, slots=True)
class Retired:
    """The authority revoked the certificate at our request, or had done so before."""


@dataclass(frozen=True, slots=True)
class Lapsed:
    """The certificate in use has passed its notAfter."""


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
    """One lineage; `used` and `signed` are (notBefore, notAfter) of the certificate in use and the next."""

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

# (state, event) -> (next state, actions in their order, when the next `Due` comes)
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
    # The authority voids a generation that was not used in time; the current one may renew again.
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
"""Outcomes that may still arrive after an end; `step` has their certificates revoked."""


def born(now: datetime) -> Life:
    """Return the life of an agent that was requested just now."""
    return Life(state=AgentState.REQUESTED, due=now)


def resumed(life: Life, *, now: datetime, jitter: float) -> Life:
    """Return a life read back after a restart: unfinished work is due at once, a renewal is timed anew."""
    if life.state in DEAD or life.state is AgentState.FINAL:
        return replace(life, due=None)
    when = _When.RENEWAL if life.state is AgentState.ACTIVE else _When.NOW
    return replace(life, due=_due(life, when, now=now, jitter=jitter))


def step(life: Life, event: Event, *, now: datetime, jitter: float) -> tuple[Life, tuple[Action, ...]]:
    """Return the life after an event, and the actions to perform; AssertionError for an impossible pair.

    1. After an end, outcomes are dropped, but a late certificate is revoked. 2. Look the pair up; a repeated
    end or a late failure changes nothing. 3. Count attempts. 4. Move the validity windows with the
    certificates. 5. Time what comes next.
    """
    # 1. late outcomes
    if life.state in DEAD or (life.state is AgentState.ENDING and isinstance(event, LATE)):
        if isinstance(event, LATE):
            return replace(life, state=AgentState.ENDING, due=now, signed=_window(event)), ()
        return life, ()
    # 2. the table
    row = TABLE.get((life.state, type(event)))
    if row is None:
        # An end that is reported again, a late failure, or an expiry that matters no more.
        if life.state is AgentState.ENDING or isinstance(event, Unavailable | Lapsed):
            return life, ()
        raise AssertionError(
            f"{type(event).__name__} cannot happen to a certificate that is {life.state.value}"
        )
    # 3. consecutive failures within one state
    state, actions, when = row
    attempts = life.attempts + 1 if when is _W.RETRY else 0 if state is not life.state else life.attempts
    # 4. the certificate just signed, then the one in use
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
    # 5. from the new life: a renewal is timed by the window just promoted
    return replace(after, due=_due(after, when, now=now, jitter=jitter)), actions


def delivers(life: Life) -> bool:
    """Whether claims get the certificate in use."""
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
            # The exponent is capped, because a timedelta overflows after 48 doublings.
            longest = LAST_PROOF_RETRY if life.state is AgentState.PENDING else LAST_RETRY
            pause: timedelta = min(FIRST_RETRY * 2 ** min(life.attempts - 1, 16), longest)
            return now + pause * (0.5 + 0.5 * jitter)
        case _When.RENEWAL if life.used is not None:
            not_before, not_after = life.used
            wait: timedelta = (not_after - not_before) * (RENEW_AT - RENEW_SPREAD * jitter)
            return not_before + wait
        case _:
            return None
