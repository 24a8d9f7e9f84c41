"""Spawns: who may ask for whom, and that capabilities only shrink along a chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.items import Resign
from ca.store.rows import names
from ostiary.capability_ceilings import MAX_DEPTH
from tests.support.ca_decisions import GRANTS, RecorderInMemory, key, peer, replaced

OTHER = "n2.nodes.shop.example"


@pytest.fixture
def recorder() -> RecorderInMemory:
    return RecorderInMemory()


def test_a_child_records_its_parent_and_its_ceiling(recorder: RecorderInMemory) -> None:
    manager, parent = recorder.manager(), recorder.controller()
    item = recorder.spawn(manager, parent)
    assert not recorder.rule(item)
    child = recorder.row(item.certificate.serial)
    assert (child.status, child.depth, child.parent) == ("active", 1, parent.serial)
    assert (child.capabilities, child.ceiling) == ("credential:use spawn:component",) * 2


def test_what_was_not_asked_is_out_of_reach_for_descendants(recorder: RecorderInMemory) -> None:
    manager, parent = recorder.manager(), recorder.controller()
    first = recorder.spawn(manager, parent, asked=("spawn:component",))
    assert not recorder.rule(first)
    child = recorder.row(first.certificate.serial)
    greedy = recorder.spawn(manager, child, subsystem="component", asked=("credential:use",))
    assert recorder.rule(greedy) == "spawn-capabilities"
    assert not recorder.rule(
        recorder.spawn(manager, child, subsystem="component", asked=("credential:use",), capabilities=())
    )


def test_a_lost_answer_is_given_again_and_an_agent_has_one_lineage(recorder: RecorderInMemory) -> None:
    manager, parent = recorder.manager(), recorder.controller()
    item = recorder.spawn(manager, parent)
    recorder.decide(item)
    agent = item.certificate.agent
    same = recorder.decide(recorder.spawn(manager, parent, agent=agent))
    assert isinstance(same.item, Resign)
    assert same.substitute == item.certificate.tbs
    assert (
        recorder.rule(recorder.spawn(manager, parent, agent=agent, spki_digest=key(8))) == "spawn-agent-taken"
    )
    assert recorder.rule(recorder.spawn(manager, parent, agent=parent.agent)) == "spawn-agent-taken"


@pytest.mark.parametrize(
    ("changed", "rule"),
    [
        ({"node": OTHER}, "spawn-other-node"),
        ({"subsystem": "component"}, "spawn-not-granted"),
        ({"subsystem": "certificate-manager", "capabilities": ()}, "reserved-subsystem"),
        ({"subsystem": "certificate-authority", "capabilities": ()}, "reserved-subsystem"),
        ({"capabilities": ("credential:use", "enroll:node")}, "spawn-capabilities"),
        ({"lifetime_s": 7201}, "certificate-lifetime"),
    ],
)
def test_one_thing_beyond_is_refused(recorder: RecorderInMemory, changed: dict[str, Any], rule: str) -> None:
    manager, parent = recorder.manager(), recorder.controller()
    before = recorder.states()
    assert recorder.rule(recorder.spawn(manager, parent, **changed)) == rule
    assert recorder.states() == before


def test_the_manager_is_its_nodes_own_and_itself(recorder: RecorderInMemory) -> None:
    manager, parent, stranger = recorder.manager(), recorder.controller(), recorder.manager(OTHER)
    assert recorder.rule(recorder.spawn(stranger, parent)) == "spawn-other-node"
    assert recorder.rule(recorder.spawn(parent, parent)) == "spawn-not-manager"
    assert recorder.rule(recorder.spawn(manager, recorder.controller(OTHER))) == "spawn-spawner"
    posing = replaced(peer(stranger), {"node": manager.node})
    assert recorder.rule(recorder.spawn(stranger, parent, by=posing)) == "spawn-not-manager"
    recorder.decide(recorder.revoke(manager.serial))
    assert recorder.rule(recorder.spawn(manager, parent)) == "spawn-not-manager"


def test_a_dead_or_stopped_spawner_spawns_nothing(recorder: RecorderInMemory) -> None:
    manager, parent = recorder.manager(), recorder.controller()
    recorder.rows.certificates[parent.serial] = replace(parent, stopped=True)
    assert recorder.rule(recorder.spawn(manager, parent)) == "spawn-spawner"
    recorder.rows.certificates[parent.serial] = parent
    recorder.decide(recorder.revoke(parent.serial))
    assert recorder.rule(recorder.spawn(manager, parent)) == "spawn-spawner"


def test_a_chain_ends(recorder: RecorderInMemory) -> None:
    recorder.grants["component"] = frozenset({"spawn:component"})
    manager, parent = recorder.manager(), recorder.controller()
    asked = ("spawn:component",)
    item = recorder.spawn(manager, parent, asked=asked)
    for _ in range(MAX_DEPTH):
        assert not recorder.rule(item)
        item = recorder.spawn(
            manager, recorder.row(item.certificate.serial), subsystem="component", asked=asked
        )
    assert recorder.rule(item) == "spawn-depth"


CAPABILITIES = ["credential:use", "spawn:component", "ledger:read", "enroll:node"]
SETS = st.frozensets(st.sampled_from(CAPABILITIES))


@given(grant=SETS, removed=SETS, asked=SETS, wanted=SETS, held=SETS)
def test_removing_a_right_never_grants_more(
    grant: frozenset[str],
    removed: frozenset[str],
    asked: frozenset[str],
    wanted: frozenset[str],
    held: frozenset[str],
) -> None:
    """Whatever is authorized with fewer rights (granted, asked, or held by an ancestor) is authorized with
    all of them.
    """

    def allowed(grant: frozenset[str], asked: frozenset[str], ceiling: frozenset[str]) -> bool:
        recorder = RecorderInMemory()
        recorder.grants = {**GRANTS, "component-harness": grant}
        manager, parent = recorder.manager(), recorder.controller()
        recorder.rows.certificates[parent.serial] = replace(parent, ceiling=" ".join(sorted(ceiling)))
        item = recorder.spawn(
            manager,
            recorder.row(parent.serial),
            asked=tuple(sorted(asked)),
            capabilities=tuple(sorted(wanted)),
        )
        return not recorder.rule(item)

    everything = allowed(grant, asked, held)
    assert everything == (wanted <= grant & asked & held)
    for less in (
        allowed(grant - removed, asked, held),
        allowed(grant, asked - removed, held),
        allowed(grant, asked, held - removed),
    ):
        assert everything or not less


def test_no_chain_reaches_more_than_its_first_ask(recorder: RecorderInMemory) -> None:
    manager, parent = recorder.manager(), recorder.controller()
    item = recorder.spawn(manager, parent, asked=("spawn:component",))
    recorder.decide(item)
    reached: set[str] = set()
    row = recorder.row(item.certificate.serial)
    for _ in range(3):
        asked = ("credential:use", "ledger:read", "spawn:component")
        next_item = recorder.spawn(
            manager, row, subsystem="component", asked=asked, capabilities=("spawn:component",)
        )
        assert not recorder.rule(next_item)
        row = recorder.row(next_item.certificate.serial)
        reached |= names(row.granted) | names(row.ceiling or "")
    assert reached == {"spawn:component"}
