"""Which process belongs to which agent, over processes that a test arranges."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pytest

from certmgr.scopes import (
    CgroupScope,
    LeaseScope,
    Process,
    ProcessKey,
    ProcessScope,
    Surroundings,
    choose_scope,
    distance,
    is_alive,
    lineage,
    refresh,
    without,
)
from ostiary.errors import Forbidden
from tests.support.fake_processes import FakeProcesses

NOON: Final = datetime(2026, 11, 21, 12, tzinfo=UTC)
MANAGER: Final = 10
SPAWNER: Final = 20
AROUND: Final = Surroundings(manager=MANAGER, spawner=ProcessKey(SPAWNER, 120), named=None, lease_until=None)


@pytest.fixture
def machine() -> FakeProcesses:
    machine = FakeProcesses()
    machine.add(1, parent=0)
    machine.add(MANAGER, cgroup="/manager")
    machine.add(SPAWNER, cgroup="/spawner")
    for path in ("/manager", "/spawner", "/own"):
        machine.add_cgroup(path)
    return machine


def inside(
    machine: FakeProcesses, scope: CgroupScope | ProcessScope | LeaseScope, process: Process
) -> int | None:
    return distance(machine, scope, list(lineage(machine, process)))


def test_a_leaf_cgroup_of_its_own_is_the_scope(machine: FakeProcesses) -> None:
    claimer = machine.add(30, cgroup="/own")
    assert choose_scope(machine, claimer, AROUND) == CgroupScope(path="/own", inode=7)


@pytest.mark.parametrize("cgroup", ["/", None, "/spawner", "/manager", "/branch", "/gone"])
def test_a_shared_or_divided_cgroup_is_not_the_scope(machine: FakeProcesses, cgroup: str | None) -> None:
    """Shared with the spawner or the manager, the root, one with children, or one that has gone."""
    machine.add_cgroup("/branch", is_leaf=False)
    claimer = machine.add(30, cgroup=cgroup)
    assert choose_scope(machine, claimer, AROUND) == ProcessScope(root=claimer.key)


def test_the_process_that_the_spawner_named_is_the_scope(machine: FakeProcesses) -> None:
    named = machine.add(30)
    child = machine.add(31, parent=30)
    around = replace(AROUND, named=named.key)
    assert choose_scope(machine, child, around) == ProcessScope(root=named.key)
    with pytest.raises(Forbidden) as caught:
        choose_scope(machine, machine.add(32), around)
    assert caught.value.rule == "scope"


def test_a_named_process_stands_for_its_leaf(machine: FakeProcesses) -> None:
    named = machine.add(30, cgroup="/own")
    orphan = machine.add(31, cgroup="/own")
    around = replace(AROUND, named=named.key)
    assert choose_scope(machine, orphan, around) == CgroupScope(path="/own", inode=7)


def test_a_lease_is_the_session_where_the_claimer_says_so(machine: FakeProcesses) -> None:
    shell = machine.add(30, session=30)
    command = machine.add(31, parent=30, session=30)
    around = replace(AROUND, lease_until=NOON)
    lease = choose_scope(machine, command, around)
    assert lease == LeaseScope(anchor=shell.key, until=NOON)
    machine.end(31)
    assert isinstance(lease, LeaseScope)
    assert inside(machine, lease, machine.add(33, parent=30, session=30)) is not None
    assert inside(machine, lease, machine.add(34, session=34)) is None
    assert is_alive(machine, lease, NOON - timedelta(seconds=1))
    assert not is_alive(machine, lease, NOON)
    machine.end(30)
    machine.add(30, start=999)  # a later process of the same number leads no session of ours
    assert inside(machine, lease, machine.table[33]) is None


@pytest.mark.parametrize("session", [29, 0], ids=["whose leader has ended", "of another pid namespace"])
def test_a_lease_of_a_session_without_leader_is_what_descends_from_its_topmost(
    machine: FakeProcesses, session: int
) -> None:
    script = machine.add(30, parent=1, session=session)
    command = machine.add(31, parent=30, session=session)
    lease = choose_scope(machine, command, replace(AROUND, lease_until=NOON))
    assert lease == LeaseScope(anchor=script.key, until=NOON)
    machine.end(31)
    sibling = machine.add(32, parent=30, session=session)
    assert isinstance(lease, LeaseScope)
    assert inside(machine, lease, sibling) is not None
    assert inside(machine, lease, machine.add(33, parent=1, session=session)) is None
    assert inside(machine, lease, machine.add(34, parent=30, session=34)) is None
    machine.end(30)
    machine.add(30, session=session, start=999)
    assert inside(machine, lease, sibling) is None


def test_only_descendants_are_inside(machine: FakeProcesses) -> None:
    root = machine.add(30)
    grandchild = [machine.add(31, parent=30), machine.add(32, parent=31)][-1]
    scope = ProcessScope(root=root.key)
    assert inside(machine, scope, root) == 0
    assert inside(machine, scope, grandchild) == 4
    assert inside(machine, scope, machine.table[SPAWNER]) is None
    assert inside(machine, scope, machine.add(40)) is None


def test_a_later_process_with_the_same_pid_is_outside(machine: FakeProcesses) -> None:
    scope = ProcessScope(root=machine.add(30).key)
    machine.end(30)
    assert inside(machine, scope, machine.add(30, start=999)) is None
    assert not is_alive(machine, scope, NOON)


def test_a_parent_does_not_count_if_the_child_was_reparented_meanwhile(machine: FakeProcesses) -> None:
    """The parent's number was taken by another process between two readings."""
    child = machine.add(31, parent=30)
    machine.add(30)
    machine.table[31] = replace(child, parent=1)
    assert [each.key.pid for each in lineage(machine, child)] == [31]


def test_orphans_that_were_known_keep_the_scope(machine: FakeProcesses) -> None:
    root, child = machine.add(30), machine.add(31, parent=30)
    scope = refresh(machine, ProcessScope(root=root.key), [child.key])
    machine.end(30)
    assert is_alive(machine, scope, NOON)
    assert inside(machine, scope, machine.table[31]) == 1
    machine.end(31)
    assert refresh(machine, scope, []) == ProcessScope(root=root.key)
    assert not is_alive(machine, scope, NOON)


def test_a_cgroup_is_itself_by_its_inode(machine: FakeProcesses) -> None:
    claimer = machine.add(30, cgroup="/own")
    scope = CgroupScope(path="/own", inode=7)
    assert inside(machine, scope, claimer) == 1
    assert inside(machine, scope, machine.add(31, parent=30, cgroup="/own")) == 3
    assert inside(machine, scope, machine.add(32, parent=30, cgroup="/")) is None
    assert is_alive(machine, scope, NOON)
    machine.add_cgroup("/own", populated=False)
    assert not is_alive(machine, scope, NOON)
    machine.add_cgroup("/own", inode=8)
    assert not is_alive(machine, scope, NOON)
    assert inside(machine, scope, claimer) is None


def test_a_process_with_its_own_scope_leaves_the_outer_one(machine: FakeProcesses) -> None:
    root, child, grandchild = machine.add(30), machine.add(31, parent=30), machine.add(32, parent=31)
    sibling = machine.add(33, parent=30)
    outer = ProcessScope(root=root.key, members=frozenset({child.key, grandchild.key, sibling.key}))
    inner = ProcessScope(root=child.key)
    assert without(machine, outer, inner) == ProcessScope(root=root.key, members=frozenset({sibling.key}))
    cgroup = CgroupScope(path="/own", inode=7)
    assert without(machine, cgroup, inner) == cgroup
    depth_inside, depth_outside = inside(machine, inner, grandchild), inside(machine, outer, root)
    assert depth_inside == 2
    assert depth_outside == 0
