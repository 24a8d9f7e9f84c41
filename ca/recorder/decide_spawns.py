"""Spawns: a manager asks for a new agent, for a spawner on its node; capabilities only shrink.

    certificate     <=  asked & grant(sub-system) & ceiling(child)
    ceiling(child)  =   ceiling(parent) & asked

Rules:
- The manager's certificate is active and holds enroll:node; manager, spawner and child share a node.
- The spawner's certificate is live and carries spawn:<sub-system>; a chain is at most MAX_DEPTH deep.
- The front computes the capabilities; the recorder checks that none goes beyond what is left.
"""

from __future__ import annotations

from dataclasses import replace

from ca.items import Spawn
from ca.recorder.decide_revocations import is_manager
from ca.recorder.decision import SIGN, Decision, Terms
from ca.recorder.issuing import again, check_issuable, first_certificate, is_retry, issue
from ca.recorder.rules import forbidden
from ca.store.rows import CertificateRow, Rows, joined, names
from ostiary.capability_ceilings import MAX_DEPTH
from ostiary.subsystems import CERTIFICATE_AUTHORITY, CERTIFICATE_MANAGER, NODE_CONTROLLER
from ostiary.timestamp import EpochSeconds

RESERVED = frozenset({CERTIFICATE_AUTHORITY, CERTIFICATE_MANAGER, NODE_CONTROLLER})
"""Sub-systems whose agents enroll with an operator's token only: a manager that could spawn managers would be
as good as an operator.
"""


def ceiling_of_child(parent_ceiling: str | None, asked: frozenset[str]) -> frozenset[str]:
    """What a new agent's ancestors leave to it and its descendants; a parent without ancestors leaves all
    that it asks for.
    """
    return asked if parent_ceiling is None else names(parent_ceiling) & asked


def spawn(rows: Rows, item: Spawn, terms: Terms) -> Decision:
    """Issue a new agent's certificate.

    1. The manager is its node's.
    2. The spawner is live there and may start this sub-system.
    3. An agent has one lineage: the same key again means a lost answer, another key is refused.
    4. The certificate is within what request, grant and ceiling leave.
    5. It can be issued.
    """
    prepared = item.certificate
    # 1. and 2.
    _check_manager(rows, item, terms.now_s)
    spawner = _spawner(rows, item, terms.now_s)
    # 3.
    for existing in rows.of_agent(prepared.agent):
        if existing.parent_lineage == spawner.lineage and is_retry(
            existing, prepared.spki_digest, terms.now_s
        ):
            return again(existing, terms.now_s)
        raise forbidden(
            "spawn-agent-taken", f"agent {prepared.agent} has a certificate already", field="agent"
        )
    # 4. `granted` keeps what policy leaves today; a renewal never gets more, even if policy grows
    #    (decide_renewals).
    asked = frozenset(item.asked)
    ceiling = ceiling_of_child(spawner.ceiling, asked)
    left = asked & terms.grant(prepared.subsystem) & ceiling
    if not set(prepared.capabilities) <= left:
        raise forbidden(
            "spawn-capabilities", f"request, grant and ceiling leave {sorted(left)}", field="capabilities"
        )
    # 5.
    check_issuable(rows, prepared, now_s=terms.now_s, max_lifetime_s=terms.max_lifetime_s)
    row = first_certificate(prepared, now_s=terms.now_s, lifetime_s=terms.max_lifetime_s)
    issue(
        rows,
        replace(
            row,
            granted=joined(left),
            ceiling=joined(ceiling),
            depth=spawner.depth + 1,
            parent=spawner.serial,
            parent_lineage=spawner.lineage,
        ),
    )
    return SIGN


def _check_manager(rows: Rows, item: Spawn, now_s: EpochSeconds) -> None:
    node = item.certificate.node
    if item.manager.node != node:
        raise forbidden(
            "spawn-other-node",
            f"a manager of '{item.manager.node}' asks for an agent on '{node}'",
            field="node",
        )
    manager = rows.certificates.get(item.manager.serial)
    if manager is None or not is_manager(manager, item.manager, node, now_s):
        raise forbidden(
            "spawn-not-manager",
            f"certificate {item.manager.serial} is no active manager of '{node}' with enroll:node",
        )


def _spawner(rows: Rows, item: Spawn, now_s: EpochSeconds) -> CertificateRow:
    subsystem = item.certificate.subsystem
    if subsystem in RESERVED:
        raise forbidden(
            "reserved-subsystem", f"'{subsystem}' enrolls with an operator's token only", field="subsystem"
        )
    row = rows.certificates.get(item.spawner)
    live = row is not None and row.is_live(now_s) and not row.stopped
    if row is None or not live or row.node != item.certificate.node:
        raise forbidden(
            "spawn-spawner",
            f"there is no live certificate {item.spawner[:40]!r} on that node",
            field="spawner",
        )
    if f"spawn:{subsystem}" not in names(row.capabilities):
        raise forbidden(
            "spawn-not-granted", f"certificate {row.serial} does not carry spawn:{subsystem}", field="spawner"
        )
    if row.depth >= MAX_DEPTH:
        raise forbidden(
            "spawn-depth", f"the chain of spawns is {row.depth} deep already, and {MAX_DEPTH} is the limit"
        )
    return row
