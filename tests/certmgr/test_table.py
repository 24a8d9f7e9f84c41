"""The table of records: indexed, kept in the vault while alive, and remembered for a while when dead."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certmgr.lifecycle import AgentState
from certmgr.record import Record
from certmgr.table import Table, describe
from ostiary.errors import NotFound
from tests.support.certificates import AGENT, NOW
from tests.support.manager_records import FakeClock, MemoryVault, record, token

KEPT = f"agent:{AGENT}"


@pytest.fixture
def vault() -> MemoryVault:
    return MemoryVault()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def table(vault: MemoryVault, clock: FakeClock) -> Table:
    return Table(vault, clock)


def dead() -> Record:
    return replace(record(), life=replace(record().life, state=AgentState.ENDED, due=None))


def test_a_record_is_found_by_agent_and_by_claim_token(table: Table) -> None:
    table.put(record())
    assert table.get(AGENT) == table.require(AGENT) == table.by_digest(token(1).digest) == record()
    assert table.get("nobody") is None
    assert table.by_digest(token(2).digest) is None
    with pytest.raises(NotFound) as caught:
        table.require("nobody")
    assert caught.value.field == "agent"


def test_a_restart_finds_the_living_and_passes_over_what_it_cannot_read(
    table: Table, vault: MemoryVault, clock: FakeClock
) -> None:
    table.put(record())
    vault.contents |= {"agent:torn": b"\x80", "ledger:shop.example/ca": b"another part's"}
    again = Table(vault, clock)
    again.restore(lambda: 0.5)
    assert [each.agent for each in again.all()] == [AGENT]
    assert again.by_digest(token(1).digest) == again.get(AGENT)


def test_the_dead_leave_the_vault_at_once_and_the_table_later(
    table: Table, vault: MemoryVault, clock: FakeClock
) -> None:
    table.put(record())
    assert KEPT in vault.contents
    table.put(dead())
    assert KEPT not in vault.contents
    assert (table.live(), table.all()) == ([], [dead()])
    clock.at = NOW + timedelta(minutes=1)
    table.forget_dead(NOW)
    assert table.get(AGENT) == dead()
    table.forget_dead(NOW + timedelta(seconds=1))
    assert table.get(AGENT) is None
    assert table.by_digest(token(1).digest) is None


def test_an_agent_that_lives_again_is_kept_again(table: Table, vault: MemoryVault) -> None:
    table.put(dead())
    table.put(record())
    assert KEPT in vault.contents
    table.forget_dead(NOW + timedelta(days=1))
    assert table.get(AGENT) == record()


def test_a_row_says_whether_a_record_survives_and_shows_no_secret(table: Table, vault: MemoryVault) -> None:
    table.put(record())
    ((kept, survives),) = table.rows()
    row = describe(kept, survives_restart=survives)
    assert (row["state"], row["survives_restart"], table.lacks) == ("active", True, None)
    assert "PRIVATE" not in repr(row)
    vault.full = True
    table.put(record())
    assert table.rows() == [(record(), False)]
    assert table.lacks is not None
