"""The memory of checkpoints: it follows what grows, and keeps both sides of a contradiction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from certmgr.bootstrap import KnownLedger
from certmgr.ledger_memory import LedgerMemory
from ostiary.errors import BadInput, InternalFault
from ostiary.ledger.checkpoint import KeyType, verifier_key
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.tiles import Tile, parse_path
from tests.support.fake_ca import ORIGIN, FakeCA
from tests.support.manager_records import MemoryVault


def fetcher(log: MemoryLog) -> Callable[[str], bytes]:
    def fetch(path: str) -> bytes:
        tile = parse_path(path)
        assert isinstance(tile, Tile)
        return log.tile(tile.level, tile.index, tile.width)

    return fetch


@pytest.fixture
def fake() -> FakeCA:
    fake = FakeCA()
    fake.log = MemoryLog([b"entry %d" % number for number in range(300)])
    return fake


def known(fake: FakeCA) -> KnownLedger:
    key = verifier_key(ORIGIN, fake.log_key, KeyType.LOG)
    return KnownLedger(origin=ORIGIN, key=key, note=fake.checkpoint())


def test_a_growing_ledger_is_followed_over_restarts(fake: FakeCA) -> None:
    vault, ledger = MemoryVault(), known(fake)
    memory = LedgerMemory(ledger, vault)
    fake.log.append([b"more %d" % number for number in range(500)])
    memory.see(fake.checkpoint(), fetcher(fake.log))
    assert (memory.status()["size"], memory.status()["alarm"]) == (800, False)
    assert LedgerMemory(ledger, vault).status() == memory.status()


@pytest.mark.parametrize("entries", [[b"a"] * 299, [b"other"] * 300, [b"other"] * 900])
def test_a_smaller_or_different_ledger_is_an_alarm_and_both_are_kept(
    fake: FakeCA, entries: list[bytes]
) -> None:
    vault, ledger, before = MemoryVault(), known(fake), fake.checkpoint().decode()
    memory = LedgerMemory(ledger, vault)
    fake.log = MemoryLog(entries)
    memory.see(fake.checkpoint(), fetcher(fake.log))
    status = memory.status()
    assert status["alarm"] is True
    assert status["checkpoint"] == before
    assert status["contradiction"] == fake.checkpoint().decode()
    fake.log = MemoryLog([b"entry %d" % number for number in range(301)])
    memory.see(fake.checkpoint(), fetcher(fake.log))
    assert memory.status()["alarm"] is True
    assert LedgerMemory(ledger, vault).status() == memory.status()


def test_a_checkpoint_signed_by_another_key_is_ignored(fake: FakeCA) -> None:
    memory = LedgerMemory(known(fake), MemoryVault())
    other = FakeCA(log=MemoryLog([b"x"]))
    with pytest.raises(BadInput):
        memory.see(other.checkpoint(), fetcher(other.log))
    assert memory.status()["alarm"] is False


def test_a_tile_of_the_wrong_length_is_no_contradiction(fake: FakeCA) -> None:
    memory = LedgerMemory(known(fake), MemoryVault())
    fake.log.append([b"more"])
    with pytest.raises(InternalFault):
        memory.see(fake.checkpoint(), lambda _path: b"short")
    assert memory.status()["alarm"] is False


def test_without_a_known_checkpoint_the_first_one_is_trusted(fake: FakeCA) -> None:
    memory = LedgerMemory(replace(known(fake), note=None), MemoryVault())
    assert memory.status()["size"] is None
    memory.see(fake.checkpoint(), fetcher(fake.log))
    assert memory.status()["size"] == 300


def test_an_unreadable_memory_starts_anew(fake: FakeCA) -> None:
    vault = MemoryVault(contents={f"ledger:{ORIGIN}": b"nonsense"})
    assert LedgerMemory(known(fake), vault).status()["size"] == 300
