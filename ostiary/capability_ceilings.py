"""How capabilities shrink: from policy to an agent, from an agent to those that it spawns.

Rules:
- An agent gets requested & grant(its sub-system) & its ceiling; ceiling(child) = ceiling(parent) & what the
  spawner asked.
- A chain of spawns ends after `MAX_DEPTH` generations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ostiary.capabilities import NO_CAPABILITIES, SPAWN, Capabilities
from ostiary.names import SubSystem

MAX_DEPTH: Final = 8


def spawnable(capabilities: Capabilities) -> frozenset[SubSystem]:
    """Return the sub-systems whose agents a holder of these capabilities may spawn."""
    return frozenset(
        SubSystem(capability.removeprefix(SPAWN))
        for capability in capabilities
        if capability.startswith(SPAWN)
    )


def issue(*, requested: Capabilities, grant: Capabilities, ceiling: Capabilities) -> Capabilities:
    """Return what goes into a certificate: never more than any of the three."""
    return requested & grant & ceiling


def child_ceiling(*, parent_ceiling: Capabilities, asked: Capabilities) -> Capabilities:
    """Return the most that a new agent's ancestors allow it."""
    return parent_ceiling & asked


def reach_within(
    grants: Mapping[SubSystem, Capabilities], subsystem: SubSystem, ceiling: Capabilities
) -> dict[SubSystem, Capabilities]:
    """Return each sub-system that a chain of spawns can reach, with the most that its agents may hold.

    The chain starts at `subsystem`, itself a member, under `ceiling`. A sub-system without a grant can be
    spawned and holds nothing.
    """
    reached: dict[SubSystem, Capabilities] = {}
    # A breadth-first walk. A ceiling only shrinks along a chain, so the first visit of a sub-system, under
    # the whole `ceiling`, already gives its most: none has to be visited twice.
    frontier = frozenset((subsystem,))
    for _ in range(MAX_DEPTH + 1):
        found = {name: grants.get(name, NO_CAPABILITIES) & ceiling for name in frontier}
        reached |= found
        frontier = frozenset[SubSystem]().union(*map(spawnable, found.values())) - reached.keys()
        if not frontier:
            break
    return reached


def reach(grants: Mapping[SubSystem, Capabilities], subsystem: SubSystem) -> dict[SubSystem, Capabilities]:
    """Return `reach_within` for an agent without ancestors: its ceiling is the union of all grants."""
    return reach_within(grants, subsystem, NO_CAPABILITIES.union(*grants.values()))
