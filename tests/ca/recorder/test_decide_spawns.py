"""Spawns: who may ask for whom, and that capabilities only shrink along a chain."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.items import Resign
from ca.store.rows import names
from ostiary.capabilities import MAX_DEPTH
from tests.support.ca_decisions import GRANTS, Desk, key, peer, replaced

OTHER = "n2.nodes.shop.example"


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_a_child_records_its_parent_and_its_ceiling(desk: Desk) -> None:
    manager, parent = desk.manager(), desk.controller()
    item = desk.spawn(manager, parent)
    assert not desk.rule(item)
    child = desk.row(item.certificate.serial)
    assert (child.status, child.depth, child.parent) == ("active", 1, parent.serial)
    assert (child.capabilities, child.ceiling) == ("credential:use spawn:component",) * 2


def test_what_was_not_asked_is_out_of_reach_for_descendants(desk: Desk) -> None:
    manager, parent = desk.manager(), desk.controller()
    first = desk.spawn(manager, parent, asked=("spawn:component",))
    assert not desk.rule(first)
    child = desk.row(first.certificate.serial)
    greedy = desk.spawn(manager, child, subsystem="component", asked=("credential:use",))
    assert desk.rule(greedy) == "spawn-capabilities"
    assert not desk.rule(
        desk.spawn(manager, child, subsystem="component", asked=("credential:use",), capabilities=())
    )


def test_a_lost_answer_is_given_again_and_an_agent_has_one_lineage(desk: Desk) -> None:
    manager, parent = desk.manager(), desk.controller()
    item = desk.spawn(manager, parent)
    desk.decide(item)
    agent = item.certificate.agent
    same = desk.decide(desk.spawn(manager, parent, agent=agent))
    assert isinstance(same.item, Resign)
    assert same.substitute == item.certificate.tbs
    assert desk.rule(desk.spawn(manager, parent, agent=agent, spki_digest=key(8))) == "spawn-agent-taken"
    assert desk.rule(desk.spawn(manager, parent, agent=parent.agent)) == "spawn-agent-taken"


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
def test_one_thing_beyond_is_refused(desk: Desk, changed: dict[str, Any], rule: str) -> None:
    manager, parent = desk.manager(), desk.controller()
    before = desk.states()
    assert desk.rule(desk.spawn(manager, parent, **changed)) == rule
    assert desk.states() == before


def test_the_manager_is_its_nodes_own_and_itself(desk: Desk) -> None:
    manager, parent, stranger = desk.manager(), desk.controller(), desk.manager(OTHER)
    assert desk.rule(desk.spawn(stranger, parent)) == "spawn-other-node"
    assert desk.rule(desk.spawn(parent, parent)) == "spawn-not-manager"
    assert desk.rule(desk.spawn(manager, desk.controller(OTHER))) == "spawn-spawner"
    posing = replaced(peer(stranger), {"node": manager.node})
    assert desk.rule(desk.spawn(stranger, parent, by=posing)) == "spawn-not-manager"
    desk.decide(desk.revoke(manager.serial))
    assert desk.rule(desk.spawn(manager, parent)) == "spawn-not-manager"


def test_a_dead_or_stopped_spawner_spawns_nothing(desk: Desk) -> None:
    manager, parent = desk.manager(), desk.controller()
    desk.rows.certificates[parent.serial] = replace(parent, stopped=True)
    assert desk.rule(desk.spawn(manager, parent)) == "spawn-spawner"
    desk.rows.certificates[parent.serial] = parent
    desk.decide(desk.revoke(parent.serial))
    assert desk.rule(desk.spawn(manager, parent)) == "spawn-spawner"


def test_a_chain_ends(desk: Desk) -> None:
    desk.grants["component"] = frozenset({"spawn:component"})
    manager, parent = desk.manager(), desk.controller()
    asked = ("spawn:component",)
    item = desk.spawn(manager, parent, asked=asked)
    for _ in range(MAX_DEPTH):
        assert not desk.rule(item)
        item = desk.spawn(manager, desk.row(item.certificate.serial), subsystem="component", asked=asked)
    assert desk.rule(item) == "spawn-depth"


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
        desk = Desk()
        desk.grants = {**GRANTS, "component-harness": grant}
        manager, parent = desk.manager(), desk.controller()
        desk.rows.certificates[parent.serial] = replace(parent, ceiling=" ".join(sorted(ceiling)))
        item = desk.spawn(
            manager,
            desk.row(parent.serial),
            asked=tuple(sorted(asked)),
            capabilities=tuple(sorted(wanted)),
        )
        return not desk.rule(item)

    everything = allowed(grant, asked, held)
    assert everything == (wanted <= grant & asked & held)
    for less in (
        allowed(grant - removed, asked, held),
        allowed(grant, asked - removed, held),
        allowed(grant, asked, held - removed),
    ):
        assert everything or not less


def test_no_chain_reaches_more_than_its_first_ask(desk: Desk) -> None:
    manager, parent = desk.manager(), desk.controller()
    item = desk.spawn(manager, parent, asked=("spawn:component",))
    desk.decide(item)
    reached: set[str] = set()
    row = desk.row(item.certificate.serial)
    for _ in range(3):
        asked = ("credential:use", "ledger:read", "spawn:component")
        next_item = desk.spawn(
            manager, row, subsystem="component", asked=asked, capabilities=("spawn:component",)
        )
        assert not desk.rule(next_item)
        row = desk.row(next_item.certificate.serial)
        reached |= names(row.granted) | names(row.ceiling or "")
    assert reached == {"spawn:component"}
