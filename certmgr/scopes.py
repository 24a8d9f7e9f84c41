"""Scopes: which processes belong to an agent, and whether its program still lives.

    cgroup    the claimer is in a leaf cgroup (version 2) without the spawner and the manager:
              all processes of that cgroup
    process   the process that the spawner named, else the claimer: it and its descendants
    lease     the claimer asked for one, because it ends at once: the processes of its session, for a
              while after the last claim; if the session's leader has ended (nohup, cron, a container),
              the descendants of the topmost process that is left of it

Rules:
- Pure decisions over `ProcessView`. A process is identified by pid and start time, so no later process can
  take its place.
- A parent counts only if the child still has that parent after the parent was read.
- Where scopes overlap, the innermost counts: a child with a certificate of its own is no longer part of its
  parent's agent.
- The first claim binds user and scope; this file decides about scopes only. Reasons: docs/adr/0013.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from typing import Final, NamedTuple, Protocol, TypeAlias

from ostiary.errors import Forbidden

_MAX_ANCESTORS: Final = 512  # bounds the walk where /proc changes under it
_ROOT_CGROUP: Final = "/"  # holds whatever nobody placed elsewhere, so it groups nothing
_INIT: Final = 1


class ProcessKey(NamedTuple):
    """The lasting name of a process: pid (thread group) and start time in clock ticks since boot."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A process as /proc shows it; `cgroup` is its path in version 2, None where there is none."""

    key: ProcessKey
    parent: int
    session: int
    cgroup: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroup:
    """A cgroup; a later one with the same path has another inode."""

    path: str
    inode: int
    is_leaf: bool
    populated: bool


class ProcessView(Protocol):
    """The processes of this machine; each call reads anew and returns None for what is gone. Thread-safe."""

    def process(self, pid: int) -> Process | None: ...

    def cgroup(self, path: str) -> Cgroup | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupScope:
    """All processes of one cgroup; exact, whatever they fork."""

    path: str
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessScope:
    """A process and its descendants; `members` are the descendants known so far, orphans included.

    The kernel forgets whose child an orphan was, so the watch learns members while their parents live.
    """

    root: ProcessKey
    members: frozenset[ProcessKey] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseScope:
    """The processes of one session (setsid(2)) until `until`, which each claim moves.

    `anchor` is the session's leader, or the topmost of the claimer's ancestors in it. While the anchor lives,
    no other session can have the number.
    """

    anchor: ProcessKey
    until: datetime


Scope: TypeAlias = CgroupScope | ProcessScope | LeaseScope


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """The other processes that a first claim concerns; `named` is the one that the spawner named."""

    manager: int
    spawner: ProcessKey | None
    named: ProcessKey | None
    lease_until: datetime | None


def choose_scope(view: ProcessView, claimer: Process, around: Surroundings) -> Scope:
    """Return the scope of a first claim; Forbidden if the claimer is not the process that the spawner named.

    1. The claimer is the named process, or belongs to it. 2. Prefer its own cgroup: it is exact. 3. Then the
    named process. 4. Then a lease, where the claimer asks for one. 5. Else the claimer itself.
    """
    # 1.
    if around.named is not None and not _is_named(view, claimer, around.named):
        raise Forbidden("the spawner named another process for this agent", rule="scope")
    # 2.
    own = _own_cgroup(view, claimer, around)
    if own is not None:
        return CgroupScope(path=own.path, inode=own.inode)
    # 3.
    if around.named is not None:
        return ProcessScope(root=around.named)
    # 4.
    if around.lease_until is not None:
        return LeaseScope(anchor=_anchor(view, claimer), until=around.lease_until)
    # 5.
    return ProcessScope(root=claimer.key)


def _anchor(view: ProcessView, claimer: Process) -> ProcessKey:
    leader = view.process(claimer.session)
    if leader is not None:
        return leader.key
    # An orphaned session: init adopted its processes, and must not become the anchor of everything.
    line = takewhile(
        lambda each: each.session == claimer.session and each.key.pid != _INIT, lineage(view, claimer)
    )
    return [claimer, *line][-1].key


def _is_named(view: ProcessView, claimer: Process, named: ProcessKey) -> bool:
    if any(each.key == named for each in lineage(view, claimer)):
        return True
    # The named process and the claimer share a cgroup: a daemon that forked away from the named process.
    process = view.process(named.pid)
    return (
        process is not None
        and process.key == named
        and process.cgroup == claimer.cgroup
        and process.cgroup not in {None, _ROOT_CGROUP}
    )


def _own_cgroup(view: ProcessView, claimer: Process, around: Surroundings) -> Cgroup | None:
    if claimer.cgroup is None or claimer.cgroup == _ROOT_CGROUP:
        return None
    # A cgroup shared with the manager or the spawner (a login session, a container) is not the agent's.
    others = [around.manager, *([around.spawner.pid] if around.spawner else [])]
    if any((other := view.process(pid)) and other.cgroup == claimer.cgroup for pid in others):
        return None
    # Version 2 keeps processes in leaves (cgroups(7), "no internal processes"); a cgroup with children is
    # delegated to somebody who divides it further.
    found = view.cgroup(claimer.cgroup)
    return found if found is not None and found.is_leaf else None


def lineage(view: ProcessView, process: Process) -> Iterator[Process]:
    """Yield a process, its parent, and so on, as far as each link is proven."""
    # Between reading a child's stat and its parent's, the parent may end and its number pass on. Reading the
    # child again shows that: init, or a subreaper, is its parent then.
    yield process
    for _ in range(_MAX_ANCESTORS):
        if process.parent <= 0:
            return
        parent = view.process(process.parent)
        again = view.process(process.key.pid)
        if parent is None or again is None or again.key != process.key or again.parent != parent.key.pid:
            return
        yield parent
        process = parent


def distance(view: ProcessView, scope: Scope, line: Sequence[Process]) -> int | None:
    """Return how deep inside a scope a process is (0 is its root), None outside; `line` is its lineage.

    Smaller means closer, across all kinds of scopes: a process scope's root is 0, and each generation below
    it adds 2. A cgroup counts from just beyond the topmost process of `line` that is in it, and a lease is
    farther than anything else.
    """
    process = line[0]
    match scope:
        case CgroupScope():
            if process.cgroup != scope.path or not _is_same_cgroup(view, scope):
                return None
            inside = [each.cgroup == scope.path for each in line]
            depth = inside.index(False) if False in inside else len(inside)
            return 2 * depth - 1
        case ProcessScope():
            # A member is as good as a child of the root (1), also when its parent is gone.
            keys = {scope.root: 0} | dict.fromkeys(scope.members - {scope.root}, 1)
            return next(
                (2 * depth + keys[each.key] for depth, each in enumerate(line) if each.key in keys), None
            )
        case LeaseScope():
            return 2 * _MAX_ANCESTORS if _is_in_session(view, scope.anchor, line) else None


def _is_in_session(view: ProcessView, anchor: ProcessKey, line: Sequence[Process]) -> bool:
    found = view.process(anchor.pid)
    if found is None or found.key != anchor or line[0].session != found.session:
        return False
    return found.session == anchor.pid or any(each.key == anchor for each in line)


def _is_same_cgroup(view: ProcessView, scope: CgroupScope) -> bool:
    found = view.cgroup(scope.path)
    return found is not None and found.inode == scope.inode


def refresh(view: ProcessView, scope: Scope, children: Iterable[ProcessKey]) -> Scope:
    """Return the scope with the living among its members and `children`, their current descendants."""
    if not isinstance(scope, ProcessScope):
        return scope
    members = {key for key in (*scope.members, *children) if _lives(view, key)}
    return ProcessScope(root=scope.root, members=frozenset(members - {scope.root}))


def without(view: ProcessView, scope: Scope, newer: Scope) -> Scope:
    """Return a scope without its members that now belong to another agent's newer scope."""
    if not isinstance(scope, ProcessScope):
        return scope
    return replace(scope, members=frozenset(key for key in scope.members if not _is_part(view, key, newer)))


def _is_part(view: ProcessView, key: ProcessKey, scope: Scope) -> bool:
    process = view.process(key.pid)
    if process is None or process.key != key:
        return False
    return distance(view, scope, list(lineage(view, process))) is not None


def is_alive(view: ProcessView, scope: Scope, now: datetime) -> bool:
    """Whether any process of the scope may still live; a lease lives until its end, whatever runs."""
    match scope:
        case CgroupScope():
            found = view.cgroup(scope.path)
            return found is not None and found.inode == scope.inode and found.populated
        case ProcessScope():
            return any(_lives(view, key) for key in (scope.root, *scope.members))
        case LeaseScope():
            return now < scope.until


def _lives(view: ProcessView, key: ProcessKey) -> bool:
    process = view.process(key.pid)
    return process is not None and process.key == key
