"""Capabilities only shrink: over issuing, over chains of spawns, over removal of a grant."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ostiary.capabilities import Capabilities, parse_capabilities
from ostiary.capability_ceilings import child_ceiling, issue, reach, reach_within, spawnable
from ostiary.names import SubSystem, parse_subsystem

SUBSYSTEMS = [parse_subsystem(name) for name in ("a", "b", "c", "d")]
UNIVERSE = parse_capabilities(
    [f"spawn:{name}" for name in SUBSYSTEMS] + ["credential:use", "ledger:read", "un:known"]
)

capabilities = st.sets(st.sampled_from(sorted(UNIVERSE))).map(frozenset)
subsystems = st.sampled_from(SUBSYSTEMS)
grants = st.dictionaries(subsystems, capabilities)
chains = st.lists(st.tuples(subsystems, capabilities), min_size=1, max_size=6)


@given(capabilities, capabilities, capabilities)
def test_issuing_never_gives_more_than_any_of_the_three(
    requested: Capabilities, grant: Capabilities, ceiling: Capabilities
) -> None:
    issued = issue(requested=requested, grant=grant, ceiling=ceiling)
    assert issued <= requested
    assert issued <= grant
    assert issued <= ceiling


@given(capabilities, chains)
def test_ceilings_only_shrink_over_a_chain(
    ceiling: Capabilities, chain: list[tuple[SubSystem, Capabilities]]
) -> None:
    for _, asked in chain:
        lower = child_ceiling(parent_ceiling=ceiling, asked=asked)
        assert lower <= ceiling
        ceiling = lower


@given(grants, subsystems, capabilities, capabilities, st.integers(0, 3))
def test_what_a_chain_can_reach_never_grows(
    policy: dict[SubSystem, Capabilities],
    start: SubSystem,
    ceiling: Capabilities,
    asked: Capabilities,
    pick: int,
) -> None:
    before = reach_within(policy, start, ceiling)
    startable = sorted(spawnable(before[start]))
    if not startable:
        return
    child = startable[pick % len(startable)]
    after = reach_within(policy, child, child_ceiling(parent_ceiling=ceiling, asked=asked))
    for subsystem, held in after.items():
        assert held <= before[subsystem]


@given(grants, subsystems, subsystems)
def test_removing_a_grant_never_extends_reach(
    policy: dict[SubSystem, Capabilities], start: SubSystem, removed: SubSystem
) -> None:
    before = reach(policy, start)
    after = reach({name: held for name, held in policy.items() if name != removed}, start)
    for subsystem, held in after.items():
        assert held <= before[subsystem]


def test_reach_follows_spawns_through_sub_systems() -> None:
    a, b, c, d = SUBSYSTEMS
    policy = {
        a: parse_capabilities(["spawn:b"]),
        b: parse_capabilities(["spawn:c", "ledger:read"]),
        d: parse_capabilities(["credential:use"]),
    }
    assert reach(policy, a) == {a: policy[a], b: policy[b], c: frozenset()}
