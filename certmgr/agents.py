"""The agents of this node: one table of records, in one process, for many threads.

Rules:
- A spawn is answered at once with a claim token; key and signature are made behind it (`certmgr.conductor`).
- Every change goes through `certmgr.lifecycle.step`, is written to the vault, and wakes who waits for it.
- A claim waits for a certificate that is being made, but only so many do: others are told to come again.
- Claims by the wrong user or from the wrong scope are refused, logged and kept for `status`.
- The dead stay known for a while, so that their programs learn why.

Owner of the lock: this class; /proc may be read under it, the network never.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from certmgr.binding import Claim, ManagerProcess, Peer, agents_of, bind
from certmgr.issued import Issued
from certmgr.keys import Names, generate
from certmgr.lifecycle import (
    DEAD,
    Action,
    AgentState,
    CutOff,
    Due,
    Event,
    Lapsed,
    ScopeEnded,
    born,
    delivers,
    is_lapsed,
    step,
)
from certmgr.record import (
    Generation,
    Record,
    Spawn,
    performed,
)
from certmgr.scopes import ProcessKey, ProcessView, Scope, without
from certmgr.table import Table, VaultPort
from ostiary.capabilities import Capabilities, spawnable
from ostiary.certificate import SerialHex
from ostiary.edge.clock import Clock
from ostiary.errors import BadInput, Busy, Conflict, Forbidden, OstiaryError, Unauthenticated
from ostiary.identity import AgentID, Application, NodeName, SubSystem
from ostiary.token import Token

CLAIM_WITHIN: Final = timedelta(minutes=10)
REMEMBER_DEAD: Final = timedelta(minutes=10)
MAX_AGENTS: Final = 10_000
MAX_REQUESTED: Final = 1_000
MAX_WAITING: Final = 8
_KEPT_REPORTS: Final = 100
_log = logging.getLogger("ostiary.certmgr")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """What a spawner asks for; `uid` and `named` narrow who may claim."""

    subsystem: SubSystem
    capabilities: Capabilities
    endpoints: tuple[str, ...]
    uid: int | None
    named: ProcessKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """Where this manager is."""

    application: Application
    node: NodeName
    manager: AgentID
    process: ManagerProcess


class Agents:
    """The table; see the rules above."""

    def __init__(
        self, node: Node, *, view: ProcessView, vault: VaultPort, clock: Clock, jitter: Callable[[], float]
    ) -> None:
        self.node = node
        self.wake = threading.Event()
        self._view = view
        self._clock = clock
        self._jitter = jitter
        self._waiting = 0
        self._reports: deque[dict[str, Any]] = deque(maxlen=_KEPT_REPORTS)
        self._lock = threading.RLock()
        self._changed = threading.Condition(self._lock)
        self._table = Table(vault, clock)
        self._table.restore(jitter)

    # --- making agents ---

    def introduce(self, names: Names, token: Token) -> None:
        """Know one of the two agents that bootstrap; nothing happens if it is known already by the same
        token.
        """
        with self._lock:
            known = self._table.get(names.agent)
            if known is not None and known.claim_digest == token.digest and known.names == names:
                return
            self._put(
                Record(
                    names=names,
                    life=born(self._clock.now()),
                    capabilities=None,
                    endpoints=None,
                    claim_digest=token.digest,
                    claim_by=None,
                    spawn=None,
                    uid=None,
                    named=None,
                )
            )

    def spawn(self, peer: Peer, request: AgentRequest, agent: AgentID, token: Token) -> None:
        """Take on a new agent for a peer whose certificate says that it may; Forbidden(rule=spawn-...) or
        Busy.
        """
        with self._lock:
            spawner, spawner_serial = self._spawner(peer, request.subsystem)
            requested = sum(record.life.state is AgentState.REQUESTED for record in self._table.all())
            if len(self._table.all()) >= MAX_AGENTS or requested >= MAX_REQUESTED:
                raise Busy("this manager has as many agents under way as it takes", retry_after_s=5)
            now = self._clock.now()
            names = Names(
                application=self.node.application,
                subsystem=request.subsystem,
                node=self.node.node,
                agent=agent,
            )
            self._put(
                Record(
                    names=names,
                    life=born(now),
                    capabilities=request.capabilities,
                    endpoints=request.endpoints,
                    claim_digest=token.digest,
                    claim_by=now + CLAIM_WITHIN,
                    spawn=Spawn(
                        spawner=spawner.agent,
                        spawner_serial=spawner_serial,
                        process=peer.process.key,
                    ),
                    uid=request.uid,
                    named=request.named,
                )
            )
        self.wake.set()

    def _spawner(self, peer: Peer, subsystem: SubSystem) -> tuple[Record, SerialHex]:
        """Return who the peer is and the serial number of its certificate, which carries
        `spawn:<subsystem>`.
        """
        asking = [each for each in agents_of(self._table.live(), peer, self._view) if delivers(each.life)]
        for record in asking:
            issued = record.current.issued if record.current else None
            if issued is not None and subsystem in spawnable(issued.identity.capabilities):
                return record, issued.serial
        if not asking:
            raise Forbidden(
                "you are no agent of this manager: claim a certificate that may spawn first",
                rule="spawn-agent",
            )
        raise Forbidden(
            f"the certificate of '{asking[0].names.subsystem}' does not carry 'spawn:{subsystem}'",
            rule="spawn-capability",
            field="subsystem",
        )

    # --- claiming ---

    def claim(self, claim: Claim, *, token: Token | None, agent: str | None, wait_s: float) -> Record:
        """Return an agent's record with a certificate that may be delivered to this claimer.

        By token, by name (where it was bound before), or by both. Raises Unauthenticated (token), NotFound
        (name), Forbidden (user or scope), Conflict (ended or refused), Busy (not yet).
        """
        with self._changed:
            record = self._find(token, agent)
            if record.life.state in DEAD or record.life.state is AgentState.ENDING:
                raise Conflict(f"agent {record.agent} is {record.life.state.value}")
            others = [
                each.binding.scope for each in self._table.live() if each is not record and each.binding
            ]
            try:
                bound = bind(
                    record,
                    claim,
                    others=others,
                    view=self._view,
                    manager=self.node.process,
                    now=self._clock.now(),
                )
            except OstiaryError as exc:
                self._report(record, claim.peer, exc)
                raise
            if bound != record:
                self._put(bound)
            if record.binding is None and bound.binding is not None:
                self._leave_others(bound.agent, bound.binding.scope)
            return self._delivered(bound.agent, wait_s)

    def _leave_others(self, agent: str, scope: Scope) -> None:
        """Who has a certificate of its own is no part of its spawner any more."""
        for each in self._table.live():
            if each.agent != agent and each.binding is not None:
                seen = each.binding.scope
                self.rescope(each.agent, seen, without(self._view, seen, scope))

    def _find(self, token: Token | None, agent: str | None) -> Record:
        if token is not None:
            record = self._table.by_digest(token.digest)
            if record is None:
                raise Unauthenticated("the claim token is not known here", field="token")
            if agent is not None and agent != record.agent:
                raise Unauthenticated("the claim token is another agent's", field="token")
            return record
        if agent is None:
            raise BadInput("neither a claim token nor an agent is given", field="token")
        return self._table.require(agent)

    def _delivered(self, agent: str, wait_s: float) -> Record:
        """Wait, with the lock given up meanwhile, until there is something to deliver."""
        until_ns = self._clock.monotonic_ns() + int(wait_s * 1e9)
        while not delivers((record := self._table.require(agent)).life):
            if record.life.state in DEAD or record.life.state in {AgentState.ENDING, AgentState.FINAL}:
                raise Conflict(f"agent {agent} is {record.life.state.value}")
            left_s = (until_ns - self._clock.monotonic_ns()) / 1e9
            if left_s <= 0 or self._waiting >= MAX_WAITING:
                raise Busy(f"the certificate of agent {agent} is not there yet ({record.life.state.value})")
            self._waiting += 1
            try:
                self._changed.wait(left_s)
            finally:
                self._waiting -= 1
        return record

    def _report(self, record: Record, peer: Peer, exc: OstiaryError) -> None:
        rule = exc.rule if isinstance(exc, Forbidden) else exc.kind
        report = {"agent": record.agent, "uid": peer.uid, "pid": peer.process.key.pid, "rule": rule}
        _log.warning("claim refused", extra=report)
        self._reports.append(report | {"at": self._clock.now().isoformat()})

    # --- ending ---

    def end(self, peer: Peer, agent: str) -> None:
        """End an agent for itself, its spawner, or an administrator (root, the manager's user)."""
        with self._lock:
            record = self._find(None, agent)
            askers = {each.agent for each in agents_of(self._table.live(), peer, self._view)}
            may = {record.agent, record.spawn.spawner} if record.spawn else {record.agent}
            if peer.uid not in {0, self.node.process.uid} and not askers & may:
                raise Forbidden("only an agent, its spawner or an administrator may end it", rule="end-agent")
            if record.agent == self.node.manager:
                raise BadInput("the manager itself is ended by its certificate authority", field="agent")
            self.apply(agent, ScopeEnded())

    def scope_ended(self, agent: str) -> None:
        """The program is gone: revoke. A bootstrap agent may come back with its token, as the same user."""
        with self._lock:
            record = self._table.get(agent)
            if record is None or record.life.state in DEAD:
                return
            _log.info("scope ended", extra={"agent": agent, "subsystem": record.names.subsystem})
            if record.spawn is None:
                uid = record.binding.uid if record.binding else record.uid
                self._put(replace(record, binding=None, uid=uid))
            else:
                self.apply(agent, ScopeEnded())

    def cut_off(self, serials: frozenset[SerialHex]) -> None:
        """The authority has revoked these certificates."""
        with self._lock:
            for record in self._table.live():
                current = record.current.issued if record.current else None
                if current is not None and current.serial in serials:
                    _log.warning("certificate was revoked", extra={"agent": record.agent})
                    self.apply(record.agent, CutOff())

    # --- what the conductor does ---

    def apply(self, agent: str, event: Event, *, issued: Issued | None = None) -> tuple[Action, ...]:
        """Let something happen to an agent; return what is to be done by others. `issued` comes with Signed
        events.
        """
        with self._changed:
            record = self._table.get(agent)
            if record is None:
                return ()
            life, actions = step(record.life, event, now=self._clock.now(), jitter=self._jitter())
            if issued is not None and record.upcoming is not None:
                record = replace(record, upcoming=replace(record.upcoming, issued=issued))
            if life.state is not record.life.state:
                _log.info("agent", extra={"agent": agent, "state": life.state.value})
            self._put(performed(replace(record, life=life), actions))
            self.wake.set()
            return actions

    def take_due(self) -> list[tuple[str, tuple[Action, ...]]]:
        """Start what is due now: return agents with what is to be done for each."""
        now = self._clock.now()
        with self._lock:
            for record in [each for each in self._table.all() if is_lapsed(each.life, now)]:
                self.apply(record.agent, Lapsed())
            self._table.forget_dead(now - REMEMBER_DEAD)
            due = [each.agent for each in self._table.all() if each.life.due and each.life.due <= now]
            return [(agent, self.apply(agent, Due())) for agent in due]

    def next_due(self) -> datetime | None:
        """When something will be due."""
        with self._lock:
            times = [each.life.due for each in self._table.all() if each.life.due]
            ends = [each.life.used[1] for each in self._table.live() if each.life.used]
            return min([*times, *ends], default=None)

    def with_key(self, agent: str) -> Record | None:
        """Make the next generation's key unless it is there; the record, None when the agent is gone."""
        record = self.get(agent)
        if record is None or record.upcoming is not None or record.life.state in DEAD:
            return record
        made = Generation(number=record.next_number, keys=generate(record.names))
        with self._lock:
            record = self._table.get(agent)
            if record is not None and record.upcoming is None and record.life.state not in DEAD:
                record = replace(record, upcoming=made)
                self._put(record)
            return record

    def rescope(self, agent: str, seen: Scope, scope: Scope) -> None:
        """Keep what became known of an agent's processes, unless its scope is another than was `seen` when
        that was looked for.
        """
        with self._lock:
            record = self._table.get(agent)
            if record is None or record.binding is None or record.binding.scope != seen or scope == seen:
                return
            self._put(replace(record, binding=replace(record.binding, scope=scope)))

    # --- reading ---

    def get(self, agent: str) -> Record | None:
        with self._lock:
            return self._table.get(agent)

    def records(self) -> list[Record]:
        """All that are not dead."""
        with self._lock:
            return self._table.live()

    def status(self) -> dict[str, Any]:
        """What `certmgr status` shows; no secret."""
        with self._lock:
            return {
                "application": self.node.application,
                "node": self.node.node,
                "manager": self.node.manager,
                "survives_restart": self._table.lacks is None,
                "lacks": self._table.lacks,
                "agents": self._table.rows(),
                "refused_claims": list(self._reports),
            }

    def _put(self, record: Record) -> None:
        self._table.put(record)
        self._changed.notify_all()
