"""The agents of this node: one table of records, in one process, for the socket's loop and many threads.

Rules:
- A spawn returns a claim token at once; key and signature follow in the background (`certmgr.conductor`).
- Every change goes through `certmgr.lifecycle.step`, is written to the vault, and wakes the claims that wait.
- A claim waits for a certificate that is under way, as a coroutine (`certmgr.waiting_claims`).
- A claim by the wrong user or from the wrong scope is refused, logged and kept for `status`.
- An agent that has ended stays known for a while, so that its program learns why.

`Agents` owns the lock. Code that holds it may read /proc and call the kernel's keyring; it never uses the
network and awaits nothing, because the loop takes the lock, too.
"""

from __future__ import annotations

import asyncio
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
from certmgr.record import Generation, Record, Spawn, introduced, performed
from certmgr.scopes import ProcessKey, ProcessView, Scope, without
from certmgr.table import Table, VaultPort, describe
from certmgr.waiting_claims import WaitingClaims
from ostiary.capabilities import Capabilities
from ostiary.capability_ceilings import spawnable
from ostiary.certificate import SerialHex
from ostiary.edge.clock import Clock
from ostiary.errors import BadInput, Busy, Conflict, Forbidden, OstiaryError, Unauthenticated
from ostiary.identity import AgentID, Application, NodeName, SubSystem
from ostiary.token import Token

# An agent that nobody claims within this time ends (`certmgr.watch`): its certificate serves nobody.
CLAIM_WITHIN: Final = timedelta(minutes=10)
REMEMBER_DEAD: Final = timedelta(minutes=10)
# Bounds of memory and of the authority's queue, not of the design: root's quota alone holds about 14,000
# agents' keys of 1.7 kB (`kernel.keys.root_maxbytes`, 25,000,000 by default).
MAX_AGENTS: Final = 10_000
MAX_REQUESTED: Final = 1_000
_KEPT_REPORTS: Final = 100
_log = logging.getLogger("ostiary.certmgr")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentRequest:
    """What a spawner asks for; `uid` and `named` restrict the claim to a user and to a process."""

    subsystem: SubSystem
    capabilities: Capabilities
    endpoints: tuple[str, ...]
    uid: int | None
    named: ProcessKey | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """The node that this manager serves, and the manager's own process."""

    application: Application
    node: NodeName
    manager: AgentID
    process: ManagerProcess


class Agents:
    """The table of all agents; safe to use from any thread."""

    def __init__(
        self, node: Node, *, view: ProcessView, vault: VaultPort, clock: Clock, jitter: Callable[[], float]
    ) -> None:
        self.node = node
        self.wake = threading.Event()
        self._view = view
        self._clock = clock
        self._jitter = jitter
        self._reports: deque[dict[str, Any]] = deque(maxlen=_KEPT_REPORTS)
        # Reentrant, because `claim` calls `rescope` and `take_due` calls `apply`, which take it again.
        self._lock = threading.RLock()
        self._waiting = WaitingClaims()
        self._table = Table(vault, clock)
        self._table.restore(jitter)

    # --- making agents ---

    def introduce(self, names: Names, token: Token) -> None:
        """Add one of the two bootstrap agents, unless the vault brought it back with the same token."""
        with self._lock:
            known = self._table.get(names.agent)
            if known is not None and known.claim_digest == token.digest and known.names == names:
                return
            # Another token comes from a new document: its lineage replaces the old one.
            self._put(introduced(names, token.digest, self._clock.now()))

    def spawn(self, peer: Peer, request: AgentRequest, agent: AgentID, token: Token) -> None:
        """Add a new agent for a peer whose certificate allows it to spawn.

        Raises Forbidden(rule=spawn-...) or Busy.
        """
        with self._lock:
            spawner, spawner_serial = self._spawner(peer, request.subsystem)
            requested = sum(record.life.state is AgentState.REQUESTED for record in self._table.all())
            if len(self._table.all()) >= MAX_AGENTS or requested >= MAX_REQUESTED:
                raise Busy("this manager has reached its limit of agents; retry", retry_after_s=5)
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
                        spawner=spawner.agent, spawner_serial=spawner_serial, process=peer.process.key
                    ),
                    uid=request.uid,
                    named=request.named,
                )
            )
        self.wake.set()

    def _spawner(self, peer: Peer, subsystem: SubSystem) -> tuple[Record, SerialHex]:
        """Return the agent that the peer is, and the serial of its certificate with `spawn:<subsystem>`."""
        # The certificate decides, not the record: the authority may have granted less than was asked for.
        asking = [each for each in agents_of(self._table.live(), peer, self._view) if delivers(each.life)]
        for record in asking:
            issued = record.current.issued if record.current else None
            if issued is not None and subsystem in spawnable(issued.identity.capabilities):
                return record, issued.serial
        if not asking:
            raise Forbidden(
                "the caller is no agent of this manager; claim a certificate with a spawn capability first",
                rule="spawn-agent",
            )
        raise Forbidden(
            f"the certificate of '{asking[0].names.subsystem}' does not carry 'spawn:{subsystem}'",
            rule="spawn-capability",
            field="subsystem",
        )

    # --- claiming ---

    async def claim(self, claim: Claim, *, token: Token | None, agent: str | None, wait_s: float) -> Record:
        """Return an agent's record with a certificate that may be delivered to this claimer.

        The token names the agent, or `agent` does once it is bound; both may be given. `wait_s` bounds the
        wait for a certificate that is under way. Raises Unauthenticated (token), NotFound (name), Forbidden
        (user or scope), Conflict (ended or refused), Busy (not signed yet).

        1. Find the agent. 2. It lives. 3. Bind it, or check its binding (`certmgr.binding`). 4. Take the
        claimer out of its spawner's scope. 5. Wait for the certificate.
        """
        # 1. to 4. in one go: a second claimer must not slip in
        with self._lock:
            bound = self._admitted(claim, token, agent)
        # 5. bound to this claimer even though there may be nothing to deliver yet
        return await self._delivered(bound, claim.peer.uid, wait_s)

    def _admitted(self, claim: Claim, token: Token | None, agent: str | None) -> str:
        # 1. the token's agent, or the named one
        record = self._find(token, agent)
        # 2. an agent that is ending gets no certificate any more
        if record.life.state in DEAD or record.life.state is AgentState.ENDING:
            raise Conflict(f"agent {record.agent} is {record.life.state.value}")
        # 3. the first claim binds, and each later one is held to that binding
        others = [each.binding.scope for each in self._table.live() if each is not record and each.binding]
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
        # 4. only the first claim creates a scope
        if record.binding is None and bound.binding is not None:
            self._leave_others(bound.agent, bound.binding.scope)
        return bound.agent

    def _leave_others(self, agent: str, scope: Scope) -> None:
        """Remove the processes of a newly claimed scope from all other agents' scopes."""
        for each in self._table.live():
            if each.agent != agent and each.binding is not None:
                seen = each.binding.scope
                self.rescope(each.agent, seen, without(self._view, seen, scope))

    def _find(self, token: Token | None, agent: str | None) -> Record:
        if token is not None:
            record = self._table.by_digest(token.digest)
            if record is None:
                raise Unauthenticated("this manager does not know the claim token", field="token")
            if agent is not None and agent != record.agent:
                raise Unauthenticated("the claim token belongs to another agent", field="token")
            return record
        if agent is None:
            raise BadInput("a claim needs a token or the name of an agent", field="token")
        return self._table.require(agent)

    async def _delivered(self, agent: str, uid: int, wait_s: float) -> Record:
        """Wait until there is a certificate to deliver, for a user's claim."""
        clock = asyncio.get_running_loop().time
        until_s = clock() + wait_s
        while True:
            with self._lock:
                record = self._table.require(agent)
                if delivers(record.life):
                    return record
                if record.life.state in DEAD or record.life.state in {AgentState.ENDING, AgentState.FINAL}:
                    raise Conflict(f"agent {agent} is {record.life.state.value}")
                left_s = until_s - clock()
                if left_s <= 0:
                    raise Busy(f"agent {agent} has no certificate yet ({record.life.state.value}); retry")
                news = self._waiting.enter(agent, uid)
            try:
                await asyncio.wait([news], timeout=left_s)
            finally:
                with self._lock:
                    self._waiting.leave(agent, uid, news)

    def _report(self, record: Record, peer: Peer, exc: OstiaryError) -> None:
        rule = exc.rule if isinstance(exc, Forbidden) else exc.kind
        report = {"agent": record.agent, "uid": peer.uid, "pid": peer.process.key.pid, "rule": rule}
        _log.warning("claim-refused", extra=report)
        self._reports.append(report | {"at": self._clock.now().isoformat()})

    # --- ending ---

    def end(self, peer: Peer, agent: str) -> None:
        """End an agent at the request of itself, its spawner, or an administrator (root, manager's user)."""
        with self._lock:
            record = self._find(None, agent)
            askers = {each.agent for each in agents_of(self._table.live(), peer, self._view)}
            may = {record.agent, record.spawn.spawner} if record.spawn else {record.agent}
            if peer.uid not in {0, self.node.process.uid} and not askers & may:
                raise Forbidden("only an agent, its spawner or an administrator may end it", rule="end-agent")
            if record.agent == self.node.manager:
                raise BadInput("only the certificate authority can end the manager itself", field="agent")
            self.apply(agent, ScopeEnded())

    def scope_ended(self, agent: str) -> None:
        """Revoke an agent whose program has ended; a bootstrap agent is only unbound.

        A node controller that restarts claims again with its token, as the same user (docs/adr/0013).
        """
        with self._lock:
            record = self._table.get(agent)
            if record is None or record.life.state in DEAD:
                return
            _log.info("scope-ended", extra={"agent": agent, "subsystem": record.names.subsystem})
            if record.spawn is None:
                # The user stays fixed, or anybody who read the bootstrap document could claim it now.
                uid = record.binding.uid if record.binding else record.uid
                self._put(replace(record, binding=None, uid=uid))
            else:
                self.apply(agent, ScopeEnded())

    def cut_off(self, serials: frozenset[SerialHex]) -> None:
        """Withdraw the agents whose certificates the authority has revoked."""
        with self._lock:
            for record in self._table.live():
                current = record.current.issued if record.current else None
                if current is not None and current.serial in serials:
                    _log.warning("certificate-revoked", extra={"agent": record.agent})
                    self.apply(record.agent, CutOff())

    # --- what the conductor does ---

    def apply(self, agent: str, event: Event, *, issued: Issued | None = None) -> tuple[Action, ...]:
        """Take one step in an agent's life; return the actions that others have to perform.

        `issued` accompanies the two Signed events. An event for an agent that is already forgotten is
        dropped: its answer was under way when the agent ended.
        """
        with self._lock:
            record = self._table.get(agent)
            if record is None:
                return ()
            life, actions = step(record.life, event, now=self._clock.now(), jitter=self._jitter())
            # The certificate joins its key before `performed` promotes the two together.
            if issued is not None and record.upcoming is not None:
                record = replace(record, upcoming=replace(record.upcoming, issued=issued))
            if life.state is not record.life.state:
                _log.info("agent-moved", extra={"agent": agent, "state": life.state.value})
            self._put(performed(replace(record, life=life), actions))
            self.wake.set()
            return actions

    def take_due(self) -> list[tuple[str, tuple[Action, ...]]]:
        """Start the work that is due now; return each agent with the actions to perform for it."""
        now = self._clock.now()
        with self._lock:
            # Lists are taken before the loops, because `apply` changes the table.
            for record in [each for each in self._table.all() if is_lapsed(each.life, now)]:
                self.apply(record.agent, Lapsed())
            self._table.forget_dead(now - REMEMBER_DEAD)
            due = [each.agent for each in self._table.all() if each.life.due and each.life.due <= now]
            return [(agent, self.apply(agent, Due())) for agent in due]

    def next_due(self) -> datetime | None:
        """Return when the next work is due or the next certificate expires; None if neither is ahead."""
        with self._lock:
            times = [each.life.due for each in self._table.all() if each.life.due]
            ends = [each.life.used[1] for each in self._table.live() if each.life.used]
            return min([*times, *ends], default=None)

    def with_key(self, agent: str) -> Record | None:
        """Make the next generation's key, unless it exists; return the record, None for an unknown agent."""
        record = self.get(agent)
        if record is None or record.upcoming is not None or record.life.state in DEAD:
            return record
        # The key is made without the lock, so other agents' claims do not wait for it; if another thread was
        # faster, its key counts. It reaches the vault before the request leaves (`_put`), so a manager that
        # is killed meanwhile asks again with the same bytes.
        made = Generation(number=record.next_number, keys=generate(record.names))
        with self._lock:
            record = self._table.get(agent)
            if record is not None and record.upcoming is None and record.life.state not in DEAD:
                record = replace(record, upcoming=made)
                self._put(record)
            return record

    def rescope(self, agent: str, seen: Scope, scope: Scope) -> None:
        """Store a scope that the watch refreshed, unless the scope has changed since it was `seen`.

        The watch reads /proc without the lock. A child may have claimed a certificate of its own meanwhile;
        the older view must not bring it back into its parent's scope.
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
        """Return the records of all agents that have not ended."""
        with self._lock:
            return self._table.live()

    def status(self) -> dict[str, Any]:
        """Return what `certmgr status` shows; no secret. With thousands of agents it takes a while."""
        with self._lock:
            lacks, reports = self._table.lacks, list(self._reports)
            rows = self._table.rows()
        # Without the lock: records are values, and describing one takes longer than finding it.
        return {
            "application": self.node.application,
            "node": self.node.node,
            "manager": self.node.manager,
            "survives_restart": lacks is None,
            "lacks": lacks,
            "agents": [describe(record, survives_restart=survives) for record, survives in rows],
            "refused_claims": reports,
        }

    def _put(self, record: Record) -> None:
        self._table.put(record)
        self._waiting.tell(record.agent)
