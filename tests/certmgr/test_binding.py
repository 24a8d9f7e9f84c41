"""The rules of a claim, over a record and processes that a test arranges."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from certmgr.binding import LEASE, Claim, ManagerProcess, agents_of, bind
from certmgr.record import Binding, Record, Spawn
from certmgr.scopes import LeaseScope, ProcessScope, Scope
from ostiary.certificate import SerialHex
from ostiary.errors import Forbidden, Unauthenticated
from tests.support.certificates import NOW
from tests.support.fake_processes import FakeProcesses
from tests.support.manager_records import CONTROLLER, CONTROLLER_NAMES, claim_of, peer, record

MANAGER = ManagerProcess(uid=900, pid=10)
OWNER = 5


@pytest.fixture
def machine() -> FakeProcesses:
    machine = FakeProcesses()
    machine.add(1, parent=0)
    machine.add(MANAGER.pid)
    machine.add(20)
    return machine


def spawned(machine: FakeProcesses, **changes: object) -> Record:
    """An agent that process 20 asked for."""
    spawn = Spawn(spawner=CONTROLLER, spawner_serial=SerialHex("0a"), process=machine.table[20].key)
    return record(spawn=spawn, **changes)


def claimed(machine: FakeProcesses, before: Record, claim: Claim, *others: Scope) -> Record:
    return bind(before, claim, others=others, view=machine, manager=MANAGER, now=NOW)


def test_the_first_claim_binds_user_and_scope(machine: FakeProcesses) -> None:
    claimer = machine.add(30)
    after = claimed(machine, spawned(machine), claim_of(claimer, uid=OWNER))
    assert after.binding == Binding(uid=OWNER, scope=ProcessScope(root=claimer.key))
    assert claimed(machine, after, claim_of(claimer, uid=OWNER, has_token=False)) == after


def test_the_first_claim_needs_the_token(machine: FakeProcesses) -> None:
    with pytest.raises(Unauthenticated) as caught:
        claimed(machine, spawned(machine), claim_of(machine.add(30), has_token=False))
    assert caught.value.field == "token"


@pytest.mark.parametrize("uid", [0, MANAGER.uid])
def test_a_bootstrap_agent_goes_to_root_and_the_managers_user(machine: FakeProcesses, uid: int) -> None:
    assert claimed(machine, record(), claim_of(machine.add(30), uid=uid)).binding is not None


def test_a_bootstrap_agent_goes_to_no_other_user(machine: FakeProcesses) -> None:
    """The document that holds its token is no secret."""
    with pytest.raises(Forbidden) as caught:
        claimed(machine, record(), claim_of(machine.add(30), uid=OWNER))
    assert caught.value.rule == "claim-user"


def test_the_user_that_the_spawner_fixed_is_the_only_one(machine: FakeProcesses) -> None:
    fixed = spawned(machine, uid=OWNER)
    assert claimed(machine, fixed, claim_of(machine.add(30), uid=OWNER)).binding is not None
    with pytest.raises(Forbidden) as caught:
        claimed(machine, fixed, claim_of(machine.add(31), uid=OWNER + 1))
    assert caught.value.rule == "claim-user"


@pytest.mark.parametrize("has_token", [False, True])
def test_a_later_claim_comes_from_inside_the_scope(machine: FakeProcesses, has_token: bool) -> None:
    bound = claimed(machine, spawned(machine), claim_of(machine.add(30), uid=OWNER))
    inside, outside = machine.add(31, parent=30), machine.add(40)
    assert claimed(machine, bound, claim_of(inside, uid=OWNER, has_token=has_token)) == bound
    with pytest.raises(Forbidden) as caught:
        claimed(machine, bound, claim_of(outside, uid=OWNER, has_token=has_token))
    assert caught.value.rule == "claim-scope"


def test_a_process_deeper_in_another_scope_is_that_agent_unless_it_has_the_token(
    machine: FakeProcesses,
) -> None:
    bound = claimed(machine, spawned(machine), claim_of(machine.add(30), uid=OWNER))
    child = machine.add(31, parent=30)
    deeper = ProcessScope(root=child.key)
    with pytest.raises(Forbidden, match="belongs to another agent"):
        claimed(machine, bound, claim_of(child, uid=OWNER, has_token=False), deeper)
    assert claimed(machine, bound, claim_of(child, uid=OWNER), deeper) == bound


def test_each_claim_extends_a_lease(machine: FakeProcesses) -> None:
    machine.add(30)
    first, second = machine.add(31, parent=30, session=30), machine.add(32, parent=30, session=30)
    bound = claimed(machine, spawned(machine), claim_of(first, lease=True))
    assert bound.binding is not None
    assert isinstance(bound.binding.scope, LeaseScope)
    earlier = replace(bound.binding.scope, until=NOW + timedelta(seconds=1))
    aged = replace(bound, binding=replace(bound.binding, scope=earlier))
    after = claimed(machine, aged, claim_of(second, has_token=False))
    assert after.binding == replace(bound.binding, scope=replace(earlier, until=NOW + LEASE))


def test_a_peer_counts_as_the_agent_of_its_innermost_scope(machine: FakeProcesses) -> None:
    parent, child = machine.add(30), machine.add(31, parent=30)
    outer = record(binding=Binding(uid=0, scope=ProcessScope(root=parent.key)), names=CONTROLLER_NAMES)
    inner = record(binding=Binding(uid=0, scope=ProcessScope(root=child.key)))
    assert agents_of([outer, inner], peer(child), machine) == [inner]
    assert agents_of([outer, inner], peer(parent), machine) == [outer]
    assert agents_of([outer, inner], peer(child, uid=OWNER), machine) == []
    assert agents_of([record()], peer(child), machine) == []
