"""Followers: they wait for the manager's certificate, go on after a failure, and pass on what they read."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import pytest

from certmgr.agents import Agents
from certmgr.est_client import ESTClient
from certmgr.followers import (
    CHECKPOINT_EVERY_S,
    FEED_WAIT_S,
    PAUSE_S,
    Follower,
    RevocationFeed,
    checkpoint_turn,
)
from certmgr.ledger_memory import LedgerMemory
from certmgr.lifecycle import SignedActive
from ostiary.certificate import SerialHex
from ostiary.errors import Busy
from tests.support.fake_processes import FakeProcesses
from tests.support.manager_records import MANAGER_AGENT, MANAGER_NAMES, issued, make_agents, token


@dataclass(kw_only=True)
class FakeAuthority:
    """Answers a follower's questions from what the test has set, and keeps the questions."""

    revoked: list[SerialHex] = field(default_factory=list)
    asked: list[object] = field(default_factory=list)

    def revocations(self, _identity_pem: bytes, since: int, *, wait_s: int) -> tuple[int, list[SerialHex]]:
        self.asked.append((since, wait_s))
        return len(self.revoked), self.revoked[since:]

    def ledger(self, _identity_pem: bytes, path: str) -> bytes:
        self.asked.append(path)
        return path.encode()


@pytest.fixture
def agents() -> Agents:
    """The table of a manager that has a certificate."""
    agents = make_agents(FakeProcesses())
    agents.introduce(MANAGER_NAMES, token(8))
    record = agents.with_key(MANAGER_AGENT)
    assert record is not None
    assert record.upcoming is not None
    found = issued(keys=record.upcoming.keys)
    signed = SignedActive(not_before=found.not_before, not_after=found.not_after)
    agents.apply(MANAGER_AGENT, signed, issued=found)
    return agents


def followed(agents: Agents, turn: Callable[[bytes], float]) -> float:
    return Follower(agents, "test", turn)._once()


def test_nothing_is_asked_before_the_manager_has_a_certificate() -> None:
    agents = make_agents(FakeProcesses())
    agents.introduce(MANAGER_NAMES, token(8))
    assert followed(agents, lambda _identity_pem: pytest.fail("asked without a certificate")) > 0


def test_a_turn_gets_key_and_chain_and_says_how_long_to_pause(agents: Agents) -> None:
    shown: list[bytes] = []

    def turn(identity_pem: bytes) -> float:
        shown.append(identity_pem)
        return 7.0

    assert followed(agents, turn) == 7.0
    assert shown[0].startswith(b"-----BEGIN PRIVATE KEY-----")


@pytest.mark.parametrize("error", [Busy("away"), ZeroDivisionError("ours")], ids=["refusal", "fault"])
def test_a_failure_only_pauses_the_follower(
    agents: Agents, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    def turn(_identity_pem: bytes) -> float:
        raise error

    caplog.set_level("INFO", logger="ostiary.certmgr")
    assert followed(agents, turn) == PAUSE_S
    assert caplog.messages == [
        "authority-not-followed" if isinstance(error, Busy) else "unexpected-exception"
    ]


def test_it_runs_until_it_is_stopped(agents: Agents) -> None:
    turned = threading.Event()

    def turn(_identity_pem: bytes) -> float:
        turned.set()
        return 0.01

    follower = Follower(agents, "test", turn)
    thread = threading.Thread(target=follower.run)
    thread.start()
    assert turned.wait(30)
    follower.stop()
    thread.join(30)
    assert not thread.is_alive()


def test_the_feed_goes_on_where_it_was_and_cuts_off_what_is_revoked(agents: Agents) -> None:
    authority = FakeAuthority()
    feed = RevocationFeed(agents, cast("ESTClient", authority))
    feed.turn(b"")
    record = agents.get(MANAGER_AGENT)
    assert record is not None
    assert record.current is not None
    assert record.current.issued is not None
    authority.revoked = [SerialHex("ff"), record.current.issued.serial]
    assert feed.turn(b"") == 0.0
    feed.turn(b"")
    assert authority.asked == [(0, FEED_WAIT_S), (0, FEED_WAIT_S), (2, FEED_WAIT_S)]
    ended = agents.get(MANAGER_AGENT)
    assert ended is not None
    assert ended.current is None


def test_a_checkpoint_and_its_tiles_come_from_the_same_authority() -> None:
    authority, seen = FakeAuthority(), list[bytes]()

    class Memory:
        def see(self, note: bytes, fetch: Callable[[str], bytes]) -> None:
            seen.extend([note, fetch("tile/0/000")])

    turn = checkpoint_turn(cast("LedgerMemory", Memory()), cast("ESTClient", authority))
    assert turn(b"") == CHECKPOINT_EVERY_S
    assert seen == [b"checkpoint", b"tile/0/000"]
