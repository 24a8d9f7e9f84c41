"""Who may have an agent's certificate: the rules of a claim, over a record and the processes of this machine.

Rules:
- The first claim presents the token; it binds the agent to the claimer's user and scope.
- Afterwards only that user from that scope may come again, with the token or without; anybody else is
  refused, and reported.
- Without the token, a claimer that is deeper inside another agent's scope is that agent, not this one.
- The two agents that bootstrap are claimed by root or the manager's own user only: their document is no
  secret.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from certmgr.record import Binding, Record
from certmgr.scopes import (
    LeaseScope,
    Process,
    ProcessView,
    Scope,
    Surroundings,
    choose_scope,
    distance,
    lineage,
)
from ostiary.errors import Forbidden, Unauthenticated

LEASE: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Who is at the other end: a user, and a process that was read while it was certain to be the one that
    asks.
    """

    uid: int
    process: Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim; `wants_lease` is the claimer's own word that it will end at once."""

    peer: Peer
    has_token: bool
    wants_lease: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerProcess:
    """The manager itself, as far as rules need it."""

    uid: int
    pid: int


def bind(
    record: Record,
    claim: Claim,
    *,
    others: Iterable[Scope],
    view: ProcessView,
    manager: ManagerProcess,
    now: datetime,
) -> Record:
    """Return the record as it is after the claim was let in; raises Forbidden(rule=claim-...) or
    Unauthenticated.

    `others` are the scopes of all other agents. 1. The user.  2. A first claim: with the token, and a scope
    is chosen.
    3. A later one: inside that scope and, without the token, in no other agent's deeper one.  4. A lease goes
       on.
    """
    _check_user(record, claim.peer, manager)
    if record.binding is None:
        if not claim.has_token:
            raise Unauthenticated("this agent was not claimed yet: present its claim token", field="token")
        scope = choose_scope(view, claim.peer.process, _surroundings(record, claim, manager, now))
        return replace(record, binding=Binding(uid=claim.peer.uid, scope=scope))
    scope = record.binding.scope
    _check_inside(scope, claim.peer.process, () if claim.has_token else others, view)
    if isinstance(scope, LeaseScope):
        return replace(record, binding=Binding(uid=claim.peer.uid, scope=replace(scope, until=now + LEASE)))
    return record


def _check_user(record: Record, peer: Peer, manager: ManagerProcess) -> None:
    if record.spawn is None and peer.uid not in {0, manager.uid}:
        raise Forbidden("only root and the manager's user may claim a bootstrap agent", rule="claim-user")
    wanted = record.binding.uid if record.binding else record.uid
    if wanted is not None and peer.uid != wanted:
        raise Forbidden(f"the agent belongs to user {wanted}, not {peer.uid}", rule="claim-user")


def _surroundings(record: Record, claim: Claim, manager: ManagerProcess, now: datetime) -> Surroundings:
    return Surroundings(
        manager=manager.pid,
        spawner=record.spawn.process if record.spawn else None,
        named=record.named,
        lease_until=now + LEASE if claim.wants_lease else None,
    )


def _check_inside(scope: Scope, process: Process, others: Iterable[Scope], view: ProcessView) -> None:
    line = list(lineage(view, process))
    inside = distance(view, scope, line)
    if inside is None:
        raise Forbidden(f"process {process.key.pid} is not part of this agent", rule="claim-scope")
    for other in others:
        depth = distance(view, other, line)
        if depth is not None and depth < inside:
            raise Forbidden(f"process {process.key.pid} is another agent", rule="claim-scope")


def agents_of(records: Iterable[Record], peer: Peer, view: ProcessView) -> list[Record]:
    """Return the agents that a peer is: those of its user whose scope it is deepest in; usually one, [] for
    nobody.
    """
    line = list(lineage(view, peer.process))
    found = [
        (depth, record)
        for record in records
        if record.binding is not None
        and record.binding.uid == peer.uid
        and (depth := distance(view, record.binding.scope, line)) is not None
    ]
    deepest = min((depth for depth, _ in found), default=0)
    return [record for depth, record in found if depth == deepest]
