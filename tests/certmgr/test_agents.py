"""The table of agents, with processes, clock and vault of the test's."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta

import pytest

from certmgr.lifecycle import Action, Due, Proven, Refused, SignedPending
from certmgr.record import Record
from certmgr.scopes import ProcessScope
from ostiary.certificate import SerialHex
from ostiary.errors import BadInput, Busy, Conflict, Forbidden, NotFound, Unauthenticated
from ostiary.identity import parse_subsystem
from tests.support.certificates import NOW
from tests.support.manager_records import (
    CHILD,
    CONTROLLER,
    CONTROLLER_NAMES,
    MANAGER_AGENT,
    FakeNode,
    MemoryVault,
    claim_of,
    claimed,
    make_agents,
    peer,
    token,
)
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least


@pytest.fixture
def node() -> FakeNode:
    return FakeNode().ready()


def test_a_spawn_is_answered_before_the_key_is_made(node: FakeNode) -> None:
    node.spawn()
    record = node.child()
    assert record.upcoming is None
    assert record.life.due == NOW
    assert record.claim_digest == token(1).digest
    assert node.agents.take_due() == [(MANAGER_AGENT, (Action.ASK,)), (CHILD, (Action.ASK,))]
    assert node.agents.take_due() == []


def test_only_an_agent_with_the_right_may_spawn(node: FakeNode) -> None:
    with pytest.raises(Forbidden) as caught:
        node.spawn(subsystem=parse_subsystem("auditor"))
    assert caught.value.rule == "spawn-capability"
    node.controller = node.machine.add(40)
    with pytest.raises(Forbidden) as caught:
        node.spawn()
    assert caught.value.rule == "spawn-agent"


def test_a_claim_waits_until_the_certificate_is_signed(node: FakeNode) -> None:
    """Other coroutines run meanwhile, and the news come from another thread."""
    node.spawn()
    claimer = node.machine.add(30)

    async def story() -> Record:
        claim = claim_of(claimer)
        waiting = asyncio.create_task(
            node.agents.claim(claim, token=token(1), agent=None, wait_s=10 * PATIENCE_S)
        )
        await asyncio.sleep(0)
        await asyncio.to_thread(node.installed)
        return await waiting

    assert asyncio.run(story()).current is not None
    with pytest.raises(Unauthenticated, match="does not know"):
        claimed(node.agents, claim_of(claimer), token=token(7))
    with pytest.raises(Unauthenticated, match="belongs to another agent"):
        claimed(node.agents, claim_of(claimer), token=token(1), agent=CONTROLLER)


def test_a_claim_that_waits_learns_of_the_end(node: FakeNode) -> None:
    node.spawn()

    async def story() -> None:
        claim = claim_of(node.machine.add(30))
        waiting = asyncio.create_task(
            node.agents.claim(claim, token=token(1), agent=None, wait_s=10 * PATIENCE_S)
        )
        await asyncio.sleep(0)
        await asyncio.to_thread(node.agents.scope_ended, CHILD)
        await waiting

    with pytest.raises(Conflict, match="is ended"):
        asyncio.run(story())


def test_a_claim_does_not_wait_for_ever(node: FakeNode) -> None:
    node.spawn()
    with pytest.raises(Busy, match="no certificate yet"), at_least(RUNS_OUT_S):
        claimed(node.agents, claim_of(node.machine.add(30)), token=token(1), wait_s=RUNS_OUT_S)


def test_a_claim_before_the_signature_is_busy_but_binds(node: FakeNode) -> None:
    node.spawn()
    with pytest.raises(Busy, match=r"no certificate yet \(requested\)"):
        claimed(node.agents, claim_of(node.machine.add(30)), token=token(1))
    # The first to come is bound, even though there was nothing to take yet.
    with pytest.raises(Forbidden) as caught:
        claimed(node.agents, claim_of(node.machine.add(31)), token=token(1))
    assert caught.value.rule == "claim-scope"
    assert [row["rule"] for row in node.agents.status()["refused_claims"]] == ["claim-scope"]


def test_later_claims_need_only_the_binding(node: FakeNode) -> None:
    node.spawn()
    node.installed()
    claimer = node.machine.add(30)
    with pytest.raises(Unauthenticated, match="first claim"):
        claimed(node.agents, claim_of(claimer, has_token=False), token=None, agent=CHILD)
    claimed(node.agents, claim_of(claimer), token=token(1))
    claimed(node.agents, claim_of(claimer, has_token=False), token=None, agent=CHILD)
    with pytest.raises(Forbidden) as caught:
        claimed(node.agents, claim_of(claimer, uid=5), token=token(1))
    assert caught.value.rule == "claim-user"
    with pytest.raises(NotFound):
        claimed(node.agents, claim_of(claimer), token=None, agent="nobody")


def test_a_bootstrap_agent_is_for_root_and_the_managers_user(node: FakeNode) -> None:
    with pytest.raises(Forbidden) as caught:
        claimed(node.agents, claim_of(node.controller, uid=5), token=token(9))
    assert caught.value.rule == "claim-user"


def test_a_child_loses_its_parents_identity_with_its_own(node: FakeNode) -> None:
    child = node.machine.add(30, parent=20)
    claimed(node.agents, claim_of(child, has_token=False), token=None, agent=CONTROLLER)
    node.spawn()
    node.installed()
    claimed(node.agents, claim_of(child), token=token(1))
    with pytest.raises(Forbidden, match="belongs to another agent"):
        claimed(node.agents, claim_of(child, has_token=False), token=None, agent=CONTROLLER)


def test_an_outdated_look_does_not_bring_a_child_back(node: FakeNode) -> None:
    child = node.machine.add(30, parent=20)
    before = ProcessScope(root=node.controller.key)
    known = replace(before, members=frozenset({child.key}))
    node.agents.rescope(CONTROLLER, before, known)
    node.spawn()
    node.installed()
    claimed(node.agents, claim_of(child), token=token(1))
    # The watch looked while the child was one of its parent's, and says so now.
    node.agents.rescope(CONTROLLER, known, replace(known, members=known.members | {node.machine.add(31).key}))
    controller = node.agents.get(CONTROLLER)
    assert controller is not None
    assert controller.binding is not None
    assert controller.binding.scope == before


def test_the_end_of_a_scope_revokes_but_lets_a_controller_come_back(node: FakeNode) -> None:
    node.spawn()
    node.installed()
    claimed(node.agents, claim_of(node.machine.add(30)), token=token(1))
    node.agents.scope_ended(CHILD)
    assert node.agents.apply(CHILD, Due()) == (Action.RETIRE,)
    with pytest.raises(Conflict, match="is ending"):
        claimed(node.agents, claim_of(node.machine.add(31)), token=token(1))
    node.agents.scope_ended(CONTROLLER)
    restarted = node.machine.add(21)
    claimed(node.agents, claim_of(restarted), token=token(9))


def test_only_the_spawner_or_an_administrator_may_end_an_agent(node: FakeNode) -> None:
    node.spawn()
    stranger = node.machine.add(50)
    with pytest.raises(Forbidden) as caught:
        node.agents.end(peer(stranger, uid=5), CHILD)
    assert caught.value.rule == "end-agent"
    with pytest.raises(BadInput, match="manager itself"):
        node.agents.end(peer(node.controller), MANAGER_AGENT)
    node.agents.end(peer(node.controller), CHILD)
    assert node.child().life.state.value == "ended"
    node.clock.at = NOW + timedelta(minutes=11)
    node.agents.take_due()
    assert node.agents.get(CHILD) is None


def test_a_revoked_certificate_is_withdrawn(node: FakeNode) -> None:
    node.spawn()
    node.installed()
    current = node.child().current
    assert current is not None
    assert current.issued is not None
    node.agents.cut_off(frozenset({SerialHex("ff"), current.issued.serial}))
    assert node.child().current is None
    assert "agent:" + CHILD not in node.vault.contents


def test_claims_for_a_refused_agent_are_refused(node: FakeNode) -> None:
    node.spawn()
    node.agents.with_key(CHILD)
    node.agents.apply(CHILD, Refused())
    with pytest.raises(Conflict, match="is refused"):
        claimed(node.agents, claim_of(node.machine.add(30)), token=token(1))


def test_expiry_is_noticed(node: FakeNode) -> None:
    node.clock.at = NOW + timedelta(hours=30)
    node.agents.take_due()
    found = node.agents.get(CONTROLLER)
    assert found is not None
    assert found.life.state.value == "expired"


def test_a_restart_restores_all_agents(node: FakeNode) -> None:
    node.spawn()
    node.installed()
    claimer = node.machine.add(30)
    claimed(node.agents, claim_of(claimer), token=token(1))
    again = make_agents(node.machine, vault=node.vault, clock=node.clock)
    found = claimed(again, claim_of(claimer, has_token=False), token=None, agent=CHILD)
    assert found.current == node.child().current
    again.introduce(CONTROLLER_NAMES, token(9))
    kept = again.get(CONTROLLER)
    assert kept is not None
    assert kept.current is not None
    again.introduce(CONTROLLER_NAMES, token(6))  # a new document: the old lineage is void
    fresh = again.get(CONTROLLER)
    assert fresh is not None
    assert fresh.current is None


def test_status_names_a_kernel_over_its_quota() -> None:
    node = FakeNode(MemoryVault(full=True)).ready()
    status = node.agents.status()
    assert status["survives_restart"] is False
    assert "EDQUOT" in status["lacks"]
    assert {row["survives_restart"] for row in status["agents"]} == {False}


def test_a_renewed_certificate_is_delivered_after_its_first_use(node: FakeNode) -> None:
    node.spawn()
    node.installed()
    claimer = node.machine.add(30)
    claimed(node.agents, claim_of(claimer), token=token(1))
    due = node.child().life.due
    assert due is not None
    node.clock.at = due
    node.agents.take_due()
    assert (CHILD, (Action.RENEW,)) in node.agents.take_due()
    found = node.issued(CHILD)
    window = {"not_before": found.not_before, "not_after": found.not_after}
    node.agents.apply(CHILD, SignedPending(**window), issued=found)
    assert node.child().current != node.child().upcoming
    assert claimed(node.agents, claim_of(claimer), token=token(1)).current is not None
    node.agents.apply(CHILD, Proven())
    renewed = claimed(node.agents, claim_of(claimer), token=token(1))
    assert renewed.current is not None
    assert renewed.current.number == 2
