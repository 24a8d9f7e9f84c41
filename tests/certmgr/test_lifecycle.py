"""The life of a certificate: the table has no dead ends, and stories told by the hour."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certmgr.lifecycle import (
    DEAD,
    LAST_PROOF_RETRY,
    LAST_RETRY,
    TABLE,
    Action,
    AgentState,
    CutOff,
    Due,
    Event,
    Lapsed,
    Life,
    Proven,
    Refused,
    Retired,
    ScopeEnded,
    SignedActive,
    SignedPending,
    Unavailable,
    born,
    delivers,
    is_lapsed,
    resumed,
    step,
)

NOON: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
MINUTE: Final = timedelta(minutes=1)


def pending(at: datetime = NOON, hours: int = 3) -> SignedPending:
    return SignedPending(not_before=at, not_after=at + hours * HOUR)


def active(at: datetime = NOON, hours: int = 3) -> SignedActive:
    return SignedActive(not_before=at, not_after=at + hours * HOUR)


def walk(life: Life, *events: Event, now: datetime = NOON, jitter: float = 0.0) -> tuple[Life, list[Action]]:
    done: list[Action] = []
    for event in events:
        life, actions = step(life, event, now=now, jitter=jitter)
        done += actions
    return life, done


def spawned() -> Life:
    return walk(born(NOON), Due(), active())[0]


def test_an_agent_is_installed_at_once_and_renewed_at_two_thirds() -> None:
    life, done = walk(born(NOON), Due(), active())
    assert done == [Action.ASK, Action.PROMOTE, Action.INSTALL]
    assert (life.state, life.due) == (AgentState.ACTIVE, NOON + 2 * HOUR)
    assert delivers(life)
    early, _ = walk(born(NOON), Due(), active(), jitter=1.0)
    assert early.due == NOON + 2 * HOUR - timedelta(minutes=9)  # 5 % of three hours


def test_a_bootstrap_certificate_is_proven_and_then_gets_its_capabilities() -> None:
    life, done = walk(born(NOON), Due(), pending(), Due())
    assert (life.state, done) == (AgentState.PENDING, [Action.ASK, Action.PROVE])
    assert not delivers(life)
    life, done = walk(life, Proven(), Due(), pending(), Due())
    assert (life.state, done) == (AgentState.PROVING, [Action.PROMOTE, Action.RENEW, Action.USE])
    assert not delivers(life)
    life, done = walk(life, Proven())
    assert (life.state, done) == (AgentState.ACTIVE, [Action.PROMOTE, Action.INSTALL])
    assert delivers(life)


def test_the_current_generation_is_delivered_until_the_next_is_used() -> None:
    life = spawned()
    at = NOON + 2 * HOUR
    life, done = walk(life, Due(), Due(), pending(at), Due(), now=at)
    assert done == [Action.RENEW, Action.USE]
    assert life.used == (NOON, NOON + 3 * HOUR)
    assert delivers(life)
    life, _ = walk(life, Proven(), now=at)
    assert life.used == (at, at + 3 * HOUR)
    assert life.due == at + 2 * HOUR


def test_retries_back_off_during_an_outage_while_the_certificate_works() -> None:
    """The authority is away from the second hour on; it comes back ten minutes before the end."""
    now = NOON + 2 * HOUR
    life, _ = walk(spawned(), Due(), now=now)
    pauses = []
    while now < NOON + 3 * HOUR - 10 * MINUTE:
        life, done = walk(life, Due(), Unavailable(), now=now, jitter=0.5)
        assert done == [Action.RENEW]
        assert delivers(life)
        assert life.due is not None
        pauses.append(life.due - now)
        now = life.due
    assert pauses[0] == timedelta(milliseconds=375)
    assert pauses[-1] == LAST_RETRY * 0.75
    assert sorted(pauses) == pauses
    life, _ = walk(life, Due(), pending(now), Due(), Proven(), now=now)
    assert (life.state, life.attempts) == (AgentState.ACTIVE, 0)


def test_an_outage_that_outlasts_the_certificate_ends_it() -> None:
    now = NOON + 2 * HOUR
    life, _ = walk(spawned(), Due(), Due(), Unavailable(), now=now)
    assert not is_lapsed(life, NOON + 3 * HOUR - MINUTE)
    assert is_lapsed(life, NOON + 3 * HOUR)
    life, done = walk(life, Lapsed(), now=NOON + 3 * HOUR)
    assert (life.state, done) == (AgentState.EXPIRED, [Action.WITHDRAW])
    assert not delivers(life)


def test_an_unused_next_generation_is_discarded_and_requested_again() -> None:
    life, _ = walk(spawned(), Due(), Due(), pending(), Due())
    life, done = walk(life, Refused())
    assert (life.state, done, life.signed) == (AgentState.RENEWING, [Action.DISCARD], None)
    assert walk(life, Due())[1] == [Action.RENEW]


def test_a_certificate_that_may_not_be_renewed_works_until_it_expires() -> None:
    life, _ = walk(spawned(), Due(), Due(), Refused())
    assert life.state is AgentState.FINAL
    assert delivers(life)
    assert life.due is None
    assert walk(life, Lapsed())[0].state is AgentState.EXPIRED


def test_the_end_of_a_scope_is_reported_until_the_authority_answers() -> None:
    life, done = walk(spawned(), ScopeEnded(), Due(), Unavailable(), Due(), Retired())
    assert done == [Action.RETIRE, Action.RETIRE, Action.WITHDRAW]
    assert life.state is AgentState.ENDED


def test_a_certificate_signed_too_late_is_revoked() -> None:
    life, done = walk(born(NOON), Due(), ScopeEnded())
    assert (life.state, done) == (AgentState.ENDED, [Action.ASK, Action.WITHDRAW])
    life, done = walk(life, active(), Due())
    assert (life.state, done) == (AgentState.ENDING, [Action.RETIRE])


def test_a_revoked_agent_is_withdrawn() -> None:
    for life in (spawned(), walk(spawned(), Due(), Due())[0], walk(spawned(), Due(), Due(), pending())[0]):
        after, done = walk(life, CutOff())
        assert (after.state, done) == (AgentState.ENDED, [Action.WITHDRAW])


def test_proving_is_retried_every_few_seconds() -> None:
    life, _ = walk(born(NOON), Due(), pending())
    for _ in range(10):
        life, _ = walk(life, Due(), Unavailable(), jitter=0.99)
    assert life.due is not None
    assert life.due - NOON <= LAST_PROOF_RETRY


@pytest.mark.parametrize("state", list(AgentState))
def test_a_restart_resumes_unfinished_work(state: AgentState) -> None:
    life = Life(state=state, due=None, used=(NOON, NOON + 3 * HOUR))
    due = resumed(life, now=NOON + HOUR, jitter=0.0).due
    if state in DEAD or state is AgentState.FINAL:
        assert due is None
    else:
        assert due == (NOON + 2 * HOUR if state is AgentState.ACTIVE else NOON + HOUR)


def test_an_impossible_event_raises_and_names_the_pair() -> None:
    with pytest.raises(AssertionError, match="Retired cannot happen to a certificate that is active"):
        walk(spawned(), Retired())


def test_the_table_has_no_dead_ends_and_no_island() -> None:
    reached = {AgentState.REQUESTED} | {row[0] for row in TABLE.values()}
    assert reached == set(AgentState)
    leads_to: dict[AgentState, set[AgentState]] = {state: {state} for state in AgentState}
    for _ in AgentState:
        for (state, _event), (after, _actions, _when) in TABLE.items():
            leads_to[state] |= leads_to[after]
    assert all(leads_to[state] & DEAD for state in AgentState)
    assert not any(state in DEAD for state, _ in TABLE)


OUTCOMES: Final[dict[Action, list[Event]]] = {
    Action.ASK: [active(), pending(), Unavailable(), Refused()],
    Action.PROVE: [Proven(), Unavailable(), Refused()],
    Action.RENEW: [pending(), active(), Unavailable(), Refused()],
    Action.USE: [Proven(), Unavailable(), Refused()],
    Action.RETIRE: [Retired(), Unavailable(), Refused()],
}
SURPRISES: Final[list[Event]] = [ScopeEnded(), CutOff()]


@given(st.data())
def test_every_history_continues_or_ends_without_delivering_afterwards(data: st.DataObject) -> None:
    """Outcomes follow requests, surprises come at any time: no pair is impossible.

    At most one request is ever under way.
    """
    life, under_way = born(NOON), None
    for _ in range(data.draw(st.integers(1, 25))):
        surprises = [
            each
            for each in SURPRISES
            if life.state is not AgentState.REQUESTED or isinstance(each, ScopeEnded)
        ]
        choices: list[Event] = list(surprises) + (OUTCOMES[under_way] if under_way else [])
        if life.due is not None:
            choices.append(Due())
        event = data.draw(st.sampled_from(choices))
        life, actions = step(life, event, now=NOON, jitter=0.5)
        if not isinstance(event, Due | ScopeEnded | CutOff):
            under_way = None
        started = [action for action in actions if action in OUTCOMES]
        assert len(started) <= 1
        under_way = started[0] if started else under_way
        if life.state in DEAD:
            assert life.due is None
            assert not delivers(life)
        elif life.state is not AgentState.FINAL:
            assert life.due is not None or under_way is not None
