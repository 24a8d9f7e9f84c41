"""Capabilities only shrink: over issuing, over chains of spawns, over removal of a grant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.capabilities import (
    CAPABILITIES_OID,
    Capabilities,
    child_ceiling,
    decode_extension,
    encode_extension,
    issue,
    parse_capabilities,
    parse_capability,
    reach,
    reach_within,
    spawnable,
)
from ostiary.errors import BadInput
from ostiary.names import SubSystem, parse_subsystem

SUBSYSTEMS = [parse_subsystem(name) for name in ("a", "b", "c", "d")]
UNIVERSE = parse_capabilities(
    [f"spawn:{name}" for name in SUBSYSTEMS] + ["credential:use", "ledger:read", "un:known"]
)

capabilities = st.sets(st.sampled_from(sorted(UNIVERSE))).map(frozenset)
subsystems = st.sampled_from(SUBSYSTEMS)
grants = st.dictionaries(subsystems, capabilities)
chains = st.lists(st.tuples(subsystems, capabilities), min_size=1, max_size=6)


@pytest.mark.parametrize(
    "text", ["spawn:component-harness", "credential:use", "enroll:node", "x9:y", "revoke:node"]
)
def test_the_grammar_takes(text: str) -> None:
    assert parse_capability(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "spawn",
        "spawn:",
        ":x",
        "spawn:*",
        "Spawn:x",
        "spawn:x:y",
        "spawn:x ",
        "spawn:x\n",
        "spawn:-x",
        *["spawn:x-", "9a:x", "sp_awn:x", "ä:x"],
        "spawn:" + "x" * 65,
    ],
)
def test_the_grammar_refuses(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_capability(text)
    assert refusal.value.field in {"capabilities", "subsystem"}


def test_no_arc_of_the_oid_breaks_a_reader() -> None:
    """Go, GnuTLS and pkilint refuse larger arcs; RFC 5280 appendix B: below 2^28, at most 20 arcs and 100
    characters.
    """
    arcs = [int(arc) for arc in CAPABILITIES_OID.dotted_string.split(".")]
    assert max(arcs) < 1 << 28
    assert len(arcs) <= 20
    assert len(CAPABILITIES_OID.dotted_string) <= 100
    assert CAPABILITIES_OID.dotted_string.startswith("1.2.840.113556.1.8000.2554.")


@given(capabilities)
def test_the_extension_is_read_as_it_was_written(held: Capabilities) -> None:
    assert decode_extension(encode_extension(held)) == held


@given(st.binary(max_size=60))
def test_bytes_that_are_accepted_are_the_only_spelling(value: bytes) -> None:
    try:
        held = decode_extension(value)
    except BadInput:
        return
    assert encode_extension(held) == value


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
