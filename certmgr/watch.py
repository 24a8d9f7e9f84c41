"""Notices the end of scopes: of a process at once by its pidfd, of a cgroup or a lease by polling.

Rules:
- Four looks a second also learn the descendants of process scopes, so a child that outlives its parent keeps
  the agent alive.
- A program that forks without end gets no more than `max_pidfds` descriptors: the socket needs some, too. The
  end of a process beyond is noticed by the next look.
- An agent ends, too, if nobody claims it in time, or if its named process ends before the claim.

Not seen without a cgroup: a daemon that forks twice between its first claim and the next look
(docs/adr/0013).
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
MAX_PIDFDS: Final = 4_096
MAX_SHARE: Final = 0.1  # of a core: with thousands of agents it looks less often
_log = logging.getLogger("ostiary.certmgr")


class ScopeWatch:
    """One thread's: `run` until `stop`; only that thread touches the pidfds."""

    def __init__(
        self, agents: Agents, view: LinuxProcesses, clock: Clock, *, max_pidfds: int = MAX_PIDFDS
    ) -> None:
        self._agents = agents
        self._view = view
        self._clock = clock
        self._poll = select.poll()
        self._pidfds: dict[ProcessKey, int] = {}
        self._max_pidfds = max_pidfds
        self._stopped = threading.Event()
        # The roots and cgroups of all agents, as of this look.
        self._roots: set[ProcessKey] = set()
        self._cgroups: set[str] = set()

    def run(self) -> None:
        """Look, then sleep until a watched process ends or the next look is due."""
        while not self._stopped.is_set():
            began_ns = self._clock.monotonic_ns()
            try:
                self.look()
            except Exception:  # noqa: BLE001 - the watch must go on for the other agents
                _log.exception("unexpected-exception", extra={"part": "watch"})
            # With thousands of agents a look takes long; sleeping nine times as long keeps the share. A pidfd
            # still ends the sleep at once.
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
            # Unclaimed for too long, else look whether the scope still lives (`_still_there` ends it if not).
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
            # Before asking whether it lives: a root that has just ended may have left children.
            seen, scope = scope, refresh(self._view, scope, children)
            self._agents.rescope(record.agent, seen, scope)
        if is_alive(self._view, scope, self._clock.now()):
            return True
        self._agents.scope_ended(record.agent)
        return False

    def _foreign_to(self, known: frozenset[ProcessKey]) -> Callable[[Process], bool]:
        """Return a test for other agents' processes, for an agent that consists of `known`."""
        # A spawner's child that claimed a certificate is a root of its own, or lives in a cgroup of its own.
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
        # The pidfd of an ended process stays readable and would end every sleep at once.
        ended = {key for key, descriptor in self._pidfds.items() if has_ended(descriptor)}
        for key in (self._pidfds.keys() - wanted) | ended:
            descriptor = self._pidfds.pop(key)
            self._poll.unregister(descriptor)
            os.close(descriptor)
        for key in wanted - self._pidfds.keys():
            if len(self._pidfds) >= self._max_pidfds:
                break
            opened = open_process(key, self._view)
            if opened is not None:
                self._pidfds[key] = opened
                self._poll.register(opened, select.POLLIN)


def _roots(scope: Scope) -> set[ProcessKey]:
    return {scope.root, *scope.members} if isinstance(scope, ProcessScope) else set()
