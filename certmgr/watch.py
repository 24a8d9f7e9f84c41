"""Notices the ends of scopes: a process's by its pidfd, at once; a cgroup's and a lease's by looking, four
times a second.

Rules:
- Looking also learns the descendants of process scopes, so that children that outlive their parent keep the
  agent alive.
- An agent that nobody claims in time, or whose named process ends before, is ended too.

What it can't see without a cgroup: a daemon that forks twice within one look after its first claim.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Final

from certmgr.agents import Agents
from certmgr.processes import LinuxProcesses, has_ended, open_process
from certmgr.record import Record
from certmgr.scopes import CgroupScope, Process, ProcessKey, ProcessScope, Scope, is_alive, refresh
from ostiary.edge.clock import Clock

LOOK_S: Final = 0.25
MAX_SHARE: Final = 0.1  # of a core: with thousands of agents it looks less often
_log = logging.getLogger("ostiary.certmgr")


class ScopeWatch:
    """One thread's: `run` until `stop`."""

    def __init__(self, agents: Agents, view: LinuxProcesses, clock: Clock) -> None:
        self._agents = agents
        self._view = view
        self._clock = clock
        self._poll = select.poll()
        self._pidfds: dict[ProcessKey, int] = {}
        self._stopped = threading.Event()
        # What agents are made of, as of this look.
        self._roots: set[ProcessKey] = set()
        self._cgroups: set[str] = set()

    def run(self) -> None:
        """Look, then sleep until a watched process ends or it is time to look again."""
        while not self._stopped.is_set():
            began_ns = self._clock.monotonic_ns()
            try:
                self.look()
            except Exception:  # noqa: BLE001 - the watch must go on for the other agents
                _log.exception("unexpected", extra={"part": "watch"})
            took_s = (self._clock.monotonic_ns() - began_ns) / 1e9
            self._poll.poll(int(max(LOOK_S, took_s * (1 / MAX_SHARE - 1)) * 1000))

    def stop(self) -> None:
        """End `run` after its current sleep."""
        self._stopped.set()

    def look(self) -> None:
        """Look at every agent once."""
        records = self._agents.records()
        scopes = [each.binding.scope for each in records if each.binding]
        self._roots = {scope.root for scope in scopes if isinstance(scope, ProcessScope)}
        self._cgroups = {scope.path for scope in scopes if isinstance(scope, CgroupScope)}
        watched: set[ProcessKey] = set()
        for record in records:
            scope = self._scope_of(record)
            if self._is_unclaimed_too_long(record):
                self._agents.scope_ended(record.agent)
            elif scope is not None and self._still_there(record, scope):
                watched |= _roots(scope)
        self._watch(watched)

    @staticmethod
    def _scope_of(record: Record) -> Scope | None:
        if record.binding is not None:
            return record.binding.scope
        return ProcessScope(root=record.named) if record.named is not None else None

    def _still_there(self, record: Record, scope: Scope) -> bool:
        if isinstance(scope, ProcessScope) and record.binding is not None:
            known = frozenset({scope.root, *scope.members})
            children = self._view.children(known, is_foreign=self._foreign_to(known))
            seen, scope = scope, refresh(self._view, scope, children)
            self._agents.rescope(record.agent, seen, scope)
        if is_alive(self._view, scope, self._clock.now()):
            return True
        self._agents.scope_ended(record.agent)
        return False

    def _foreign_to(self, known: frozenset[ProcessKey]) -> Callable[[Process], bool]:
        """Return what tells another agent's processes from those of an agent that consists of `known`."""
        found = (self._view.process(key.pid) for key in known)
        cgroups = self._cgroups - {each.cgroup for each in found if each is not None}

        def is_foreign(process: Process) -> bool:
            return process.key in self._roots or process.cgroup in cgroups

        return is_foreign

    def _is_unclaimed_too_long(self, record: Record) -> bool:
        if record.binding is not None or record.claim_by is None:
            return False
        return self._clock.now() >= record.claim_by

    def _watch(self, wanted: set[ProcessKey]) -> None:
        # Who has ended stays readable and would wake us for ever.
        ended = {key for key, descriptor in self._pidfds.items() if has_ended(descriptor)}
        for key in (self._pidfds.keys() - wanted) | ended:
            descriptor = self._pidfds.pop(key)
            self._poll.unregister(descriptor)
            os.close(descriptor)
        for key in wanted - self._pidfds.keys():
            opened = open_process(key, self._view)
            if opened is not None:
                self._pidfds[key] = opened
                self._poll.register(opened, select.POLLIN)


def _roots(scope: Scope) -> set[ProcessKey]:
    return {scope.root, *scope.members} if isinstance(scope, ProcessScope) else set()
