"""Who may have an agent's certificate: the rules of a claim, over a record and the processes of this machine.

Rules:
- The first claim presents the token; it binds the agent to the claimer's user and scope.
- Every later claim comes from that user and that scope, with or without the token; all others are refused
  and reported.
- Without the token, a claimer that is deeper inside another agent's scope counts as that agent.
- Only root and the manager's own user may claim the two bootstrap agents, because the document that holds
  their tokens is not secret.

`certmgr.agents` finds the record and stores the result. Reasons: docs/adr/0013.
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

# A shell script claims once and works on for a while; each further claim moves the end (docs/adr/0013).
LEASE: Final = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The caller: a user, and its process as /proc showed it while the caller was known to live."""

    uid: int
    process: Process


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """One claim; `wants_lease` says that the claimer ends at once and its session continues as the agent."""

    peer: Peer
    has_token: bool
    wants_lease: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerProcess:
    """The manager's own user and process."""

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
    """Return the record after an admitted claim; raises Forbidden(rule=claim-...) or Unauthenticated.

    `others` are the scopes of all other agents.

    1. The user is the right one. 2. The first claim carries the token and chooses the scope. 3. A later claim
    comes from inside that scope and, without the token, from no deeper scope of another agent. 4. A later
    claim extends a lease.
    """
    # 1. the user
    _check_user(record, claim.peer, manager)
    # 2. the first claim
    if record.binding is None:
        if not claim.has_token:
            raise Unauthenticated("the first claim of an agent needs its claim token", field="token")
        scope = choose_scope(view, claim.peer.process, _surroundings(record, claim, manager, now))
        return replace(record, binding=Binding(uid=claim.peer.uid, scope=scope))
    # 3. A later claim. Holding the token outweighs being deeper inside another agent's scope.
    scope = record.binding.scope
    _check_inside(scope, claim.peer.process, () if claim.has_token else others, view)
    # 4. the lease
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
        raise Forbidden(f"process {process.key.pid} is outside this agent's scope", rule="claim-scope")
    for other in others:
        depth = distance(view, other, line)
        if depth is not None and depth < inside:
            raise Forbidden(f"process {process.key.pid} belongs to another agent", rule="claim-scope")


def agents_of(records: Iterable[Record], peer: Peer, view: ProcessView) -> list[Record]:
    """Return the agents that a peer is, usually one: those of its user whose scope it is deepest in."""
    # Several remain when one process claimed several agents; each of them may then spawn and end.
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
