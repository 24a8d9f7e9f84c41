"""What counts as an agent's program being alive, and which process belongs to it.

    cgroup    the claimer is in a leaf cgroup (version 2) that neither spawner nor manager are in: everything in it
    process   the process that the spawner named, else the claimer: it, and what descends from it
    lease     whoever claimed asked for one (a command that ends at once): same session, for a while after the last claim;
              where the session's leader has ended (nohup, cron, a container), what descends from the topmost
              that is left of it

Rules:
- Pure decisions over `ProcessView`; a process is its pid and its start time, so that no later one can be
  taken for it.
- Parents are believed only when the child still has that parent after the parent was read.
- Where scopes overlap the innermost counts: a child that claimed a certificate of its own is no longer its
  parent.
- User and scope are both bound at the first claim; this file decides about scopes only.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile
from typing import Final, NamedTuple, Protocol, TypeAlias

from ostiary.errors import Forbidden

_MAX_ANCESTORS: Final = 512
_ROOT_CGROUP: Final = "/"
_INIT: Final = 1


class ProcessKey(NamedTuple):
    """A process for all time: pid (thread group) and start time in clock ticks since boot."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """What /proc says of a process; `cgroup` is its path in version 2, None where there is none."""

    key: ProcessKey
    parent: int
    session: int
    cgroup: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cgroup:
    """A cgroup for as long as it exists: a later one of the same path has another inode."""

    path: str
    inode: int
    is_leaf: bool
    populated: bool


class ProcessView(Protocol):
    """The processes of this machine; each call reads anew, None for what has gone. Safe to call from any
    thread.
    """

    def process(self, pid: int) -> Process | None: ...

    def cgroup(self, path: str) -> Cgroup | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CgroupScope:
    """All processes of one cgroup."""

    path: str
    inode: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessScope:
    """A process and its descendants; `members` are those known to live on after it or to be other branches'
    roots.
    """

    root: ProcessKey
    members: frozenset[ProcessKey] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseScope:
    """The processes of one session (setsid(2)), until a time that each claim moves.

    While `anchor`, its leader or the topmost of the claimer's ancestors in it, lives, the session's number is
    no other's.
    """

    anchor: ProcessKey
    until: datetime


Scope: TypeAlias = CgroupScope | ProcessScope | LeaseScope


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Who else is concerned by a first claim; `named` is the process the spawner named."""

    manager: int
    spawner: ProcessKey | None
    named: ProcessKey | None
    lease_until: datetime | None


def choose_scope(view: ProcessView, claimer: Process, around: Surroundings) -> Scope:
    """Return the scope of a first claim; Forbidden when the claimer is not what the spawner named."""
    if around.named is not None and not _is_named(view, claimer, around.named):
        raise Forbidden("the spawner named another process for this agent", rule="scope")
    own = _own_cgroup(view, claimer, around)
    if own is not None:
        return CgroupScope(path=own.path, inode=own.inode)
    if around.named is not None:
        return ProcessScope(root=around.named)
    if around.lease_until is not None:
        return LeaseScope(anchor=_anchor(view, claimer), until=around.lease_until)
    return ProcessScope(root=claimer.key)


def _anchor(view: ProcessView, claimer: Process) -> ProcessKey:
    leader = view.process(claimer.session)
    if leader is not None:
        return leader.key
    line = takewhile(
        lambda each: each.session == claimer.session and each.key.pid != _INIT, lineage(view, claimer)
    )
    return [claimer, *line][-1].key


def _is_named(view: ProcessView, claimer: Process, named: ProcessKey) -> bool:
    if any(each.key == named for each in lineage(view, claimer)):
        return True
    # A named process in a leaf of its own stands for that leaf.
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
    others = [around.manager, *([around.spawner.pid] if around.spawner else [])]
    if any((other := view.process(pid)) and other.cgroup == claimer.cgroup for pid in others):
        return None
    found = view.cgroup(claimer.cgroup)
    return found if found is not None and found.is_leaf else None


def lineage(view: ProcessView, process: Process) -> Iterator[Process]:
    """Yield a process, its parent, and so on, as far as each link is proven."""
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
    """Return how far inside a scope a process is (0 is its root), None where it is not in it; `line` is its
    lineage.
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
    """Return the scope with what is now known of its descendants (`children` of all its members), the dead
    left out.
    """
    if not isinstance(scope, ProcessScope):
        return scope
    members = {key for key in (*scope.members, *children) if _lives(view, key)}
    return ProcessScope(root=scope.root, members=frozenset(members - {scope.root}))


def without(view: ProcessView, scope: Scope, newer: Scope) -> Scope:
    """Return a scope without those of its known descendants that are part of another agent's newer scope."""
    if not isinstance(scope, ProcessScope):
        return scope
    return replace(scope, members=frozenset(key for key in scope.members if not _is_part(view, key, newer)))


def _is_part(view: ProcessView, key: ProcessKey, scope: Scope) -> bool:
    process = view.process(key.pid)
    if process is None or process.key != key:
        return False
    return distance(view, scope, list(lineage(view, process))) is not None


def is_alive(view: ProcessView, scope: Scope, now: datetime) -> bool:
    """Whether anything of the scope is left."""
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
