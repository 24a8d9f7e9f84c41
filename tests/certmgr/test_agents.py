"""The table of agents, with processes, clock and vault of the test's."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import timedelta

import pytest

from certmgr.agents import AgentRequest, Agents
from certmgr.binding import Claim
from certmgr.issued import Issued
from certmgr.keys import Names
from certmgr.lifecycle import Action, Due, Proven, Refused, SignedActive, SignedPending
from certmgr.record import Record
from certmgr.scopes import Process, ProcessScope
from ostiary.capabilities import parse_capabilities
from ostiary.certificate import SerialHex
from ostiary.errors import BadInput, Busy, Conflict, Forbidden, NotFound, Unauthenticated
from ostiary.identity import parse_agent_id, parse_subsystem
from ostiary.subsystems import NODE_CONTROLLER
from tests.support.certificates import AGENT, IDENTITY, NOW
from tests.support.fake_processes import FakeProcesses
from tests.support.manager_records import (
    MANAGER_AGENT,
    MANAGER_NAMES,
    FakeClock,
    MemoryVault,
    issued,
    make_agents,
    peer,
    token,
)

CONTROLLER = parse_agent_id("0a0a0a0a-0000-4000-8000-000000000002")
CHILD = parse_agent_id(AGENT)
CONTROLLER_IDENTITY = replace(
    IDENTITY,
    subsystem=NODE_CONTROLLER,
    agent=CONTROLLER,
    endpoints=(),
    capabilities=parse_capabilities(["spawn:component-harness"]),
)


def claim_of(process: Process, *, uid: int = 0, has_token: bool = True, lease: bool = False) -> Claim:
    return Claim(peer=peer(process, uid), has_token=has_token, wants_lease=lease)


def install(agents: Agents, agent: str, found: Issued) -> None:
    """The authority signs, and the first certificate is good at once."""
    agents.with_key(agent)
    window = {"not_before": found.not_before, "not_after": found.not_after}
    agents.apply(agent, SignedActive(**window), issued=found)


class Site:
    """A node with its controller active and claimed by process 20."""

    def __init__(self, vault: MemoryVault | None = None) -> None:
        self.machine = FakeProcesses()
        self.machine.add(1, parent=0)
        self.machine.add(10)
        self.controller = self.machine.add(20)
        self.clock = FakeClock()
        self.vault = vault or MemoryVault()
        self.agents = make_agents(self.machine, vault=self.vault, clock=self.clock)

    def ready(self) -> Site:
        self.agents.introduce(MANAGER_NAMES, token(8))
        self.agents.introduce(names_of_controller(), token(9))
        install(self.agents, CONTROLLER, self.issued(CONTROLLER))
        self.agents.claim(claim_of(self.controller), token=token(9), agent=None, wait_s=0)
        return self

    def issued(self, agent: str) -> Issued:
        record = self.agents.with_key(agent)
        assert record is not None
        assert record.upcoming is not None
        identity = CONTROLLER_IDENTITY if agent == CONTROLLER else IDENTITY
        return issued(identity, record.upcoming.keys)

    def spawn(self, **changes: object) -> None:
        given = {
            "subsystem": parse_subsystem("component-harness"),
            "capabilities": IDENTITY.capabilities,
            "endpoints": tuple(map(str, IDENTITY.endpoints)),
            "uid": None,
            "named": None,
        }
        request = AgentRequest(**given | changes)  # type: ignore[arg-type] # one field at a time
        self.agents.spawn(peer(self.controller), request, CHILD, token(1))

    def installed(self) -> None:
        install(self.agents, CHILD, self.issued(CHILD))

    def child(self) -> Record:
        found = self.agents.get(CHILD)
        assert found is not None
        return found


def names_of_controller() -> Names:
    return replace(MANAGER_NAMES, subsystem=NODE_CONTROLLER, agent=CONTROLLER)


@pytest.fixture
def site() -> Site:
    return Site().ready()


def test_a_spawn_is_answered_before_anything_is_made(site: Site) -> None:
    site.spawn()
    record = site.child()
    assert record.upcoming is None
    assert record.life.due == NOW
    assert record.claim_digest == token(1).digest
    assert site.agents.take_due() == [(MANAGER_AGENT, (Action.ASK,)), (CHILD, (Action.ASK,))]
    assert site.agents.take_due() == []


def test_only_an_agent_with_the_right_may_spawn(site: Site) -> None:
    with pytest.raises(Forbidden) as caught:
        site.spawn(subsystem=parse_subsystem("auditor"))
    assert caught.value.rule == "spawn-capability"
    site.controller = site.machine.add(40)
    with pytest.raises(Forbidden) as caught:
        site.spawn()
    assert caught.value.rule == "spawn-agent"


def test_a_claim_waits_for_the_certificate_and_is_woken(site: Site) -> None:
    site.spawn()
    claimer = site.machine.add(30)
    found: list[Record] = []

    def claim() -> None:
        found.append(site.agents.claim(claim_of(claimer), token=token(1), agent=None, wait_s=20))

    waiting = threading.Thread(target=claim)
    waiting.start()
    site.installed()
    waiting.join(10)
    assert found[0].current is not None
    with pytest.raises(Unauthenticated, match="not known here"):
        site.agents.claim(claim_of(claimer), token=token(7), agent=None, wait_s=0)
    with pytest.raises(Unauthenticated, match="another agent's"):
        site.agents.claim(claim_of(claimer), token=token(1), agent=CONTROLLER, wait_s=0)


def test_who_comes_too_early_is_told_to_come_again(site: Site) -> None:
    site.spawn()
    with pytest.raises(Busy, match=r"not there yet \(requested\)"):
        site.agents.claim(claim_of(site.machine.add(30)), token=token(1), agent=None, wait_s=0)
    # The first to come is bound, even though there was nothing to take yet.
    with pytest.raises(Forbidden) as caught:
        site.agents.claim(claim_of(site.machine.add(31)), token=token(1), agent=None, wait_s=0)
    assert caught.value.rule == "claim-scope"
    assert [row["rule"] for row in site.agents.status()["refused_claims"]] == ["claim-scope"]


def test_a_binding_suffices_later_and_nothing_else_does(site: Site) -> None:
    site.spawn()
    site.installed()
    claimer = site.machine.add(30)
    with pytest.raises(Unauthenticated, match="not claimed yet"):
        site.agents.claim(claim_of(claimer, has_token=False), token=None, agent=CHILD, wait_s=0)
    site.agents.claim(claim_of(claimer), token=token(1), agent=None, wait_s=0)
    site.agents.claim(claim_of(claimer, has_token=False), token=None, agent=CHILD, wait_s=0)
    with pytest.raises(Forbidden) as caught:
        site.agents.claim(claim_of(claimer, uid=5), token=token(1), agent=None, wait_s=0)
    assert caught.value.rule == "claim-user"
    with pytest.raises(NotFound):
        site.agents.claim(claim_of(claimer), token=None, agent="nobody", wait_s=0)


def test_a_bootstrap_agent_is_for_root_and_the_managers_user(site: Site) -> None:
    with pytest.raises(Forbidden) as caught:
        site.agents.claim(claim_of(site.controller, uid=5), token=token(9), agent=None, wait_s=0)
    assert caught.value.rule == "claim-user"


def test_a_child_loses_its_parents_identity_with_its_own(site: Site) -> None:
    child = site.machine.add(30, parent=20)
    site.agents.claim(claim_of(child, has_token=False), token=None, agent=CONTROLLER, wait_s=0)
    site.spawn()
    site.installed()
    site.agents.claim(claim_of(child), token=token(1), agent=None, wait_s=0)
    with pytest.raises(Forbidden, match="is another agent"):
        site.agents.claim(claim_of(child, has_token=False), token=None, agent=CONTROLLER, wait_s=0)


def test_a_look_that_began_before_does_not_bring_a_child_back(site: Site) -> None:
    child = site.machine.add(30, parent=20)
    before = ProcessScope(root=site.controller.key)
    known = replace(before, members=frozenset({child.key}))
    site.agents.rescope(CONTROLLER, before, known)
    site.spawn()
    site.installed()
    site.agents.claim(claim_of(child), token=token(1), agent=None, wait_s=0)
    # The watch looked while the child was one of its parent's, and says so now.
    site.agents.rescope(CONTROLLER, known, replace(known, members=known.members | {site.machine.add(31).key}))
    controller = site.agents.get(CONTROLLER)
    assert controller is not None
    assert controller.binding is not None
    assert controller.binding.scope == before


def test_the_end_of_a_scope_revokes_but_lets_a_controller_come_back(site: Site) -> None:
    site.spawn()
    site.installed()
    site.agents.claim(claim_of(site.machine.add(30)), token=token(1), agent=None, wait_s=0)
    site.agents.scope_ended(CHILD)
    assert site.agents.apply(CHILD, Due()) == (Action.RETIRE,)
    with pytest.raises(Conflict, match="is ending"):
        site.agents.claim(claim_of(site.machine.add(31)), token=token(1), agent=None, wait_s=0)
    site.agents.scope_ended(CONTROLLER)
    restarted = site.machine.add(21)
    site.agents.claim(claim_of(restarted), token=token(9), agent=None, wait_s=0)


def test_who_may_end_an_agent(site: Site) -> None:
    site.spawn()
    stranger = site.machine.add(50)
    with pytest.raises(Forbidden) as caught:
        site.agents.end(peer(stranger, uid=5), CHILD)
    assert caught.value.rule == "end-agent"
    with pytest.raises(BadInput, match="manager itself"):
        site.agents.end(peer(site.controller), MANAGER_AGENT)
    site.agents.end(peer(site.controller), CHILD)
    assert site.child().life.state.value == "ended"
    site.clock.at = NOW + timedelta(minutes=11)
    site.agents.take_due()
    assert site.agents.get(CHILD) is None


def test_a_revoked_certificate_is_withdrawn(site: Site) -> None:
    site.spawn()
    site.installed()
    current = site.child().current
    assert current is not None
    assert current.issued is not None
    site.agents.cut_off(frozenset({SerialHex("ff"), current.issued.serial}))
    assert site.child().current is None
    assert "agent:" + CHILD not in site.vault.contents


def test_an_agent_that_the_authority_refuses_is_refused_to_its_claimers(site: Site) -> None:
    site.spawn()
    site.agents.with_key(CHILD)
    site.agents.apply(CHILD, Refused())
    with pytest.raises(Conflict, match="is refused"):
        site.agents.claim(claim_of(site.machine.add(30)), token=token(1), agent=None, wait_s=0)


def test_expiry_is_noticed(site: Site) -> None:
    site.clock.at = NOW + timedelta(hours=30)
    site.agents.take_due()
    found = site.agents.get(CONTROLLER)
    assert found is not None
    assert found.life.state.value == "expired"


def test_a_restart_finds_everything(site: Site) -> None:
    site.spawn()
    site.installed()
    claimer = site.machine.add(30)
    site.agents.claim(claim_of(claimer), token=token(1), agent=None, wait_s=0)
    again = make_agents(site.machine, vault=site.vault, clock=site.clock)
    found = again.claim(claim_of(claimer, has_token=False), token=None, agent=CHILD, wait_s=0)
    assert found.current == site.child().current
    again.introduce(names_of_controller(), token(9))
    kept = again.get(CONTROLLER)
    assert kept is not None
    assert kept.current is not None
    again.introduce(names_of_controller(), token(6))  # a new document: the old lineage is void
    fresh = again.get(CONTROLLER)
    assert fresh is not None
    assert fresh.current is None


def test_a_kernel_over_its_quota_is_told() -> None:
    site = Site(MemoryVault(full=True)).ready()
    status = site.agents.status()
    assert status["survives_restart"] is False
    assert "EDQUOT" in status["lacks"]
    assert {row["survives_restart"] for row in status["agents"]} == {False}


def test_a_renewal_is_delivered_when_it_was_used(site: Site) -> None:
    site.spawn()
    site.installed()
    claimer = site.machine.add(30)
    site.agents.claim(claim_of(claimer), token=token(1), agent=None, wait_s=0)
    due = site.child().life.due
    assert due is not None
    site.clock.at = due
    site.agents.take_due()
    assert (CHILD, (Action.RENEW,)) in site.agents.take_due()
    found = site.issued(CHILD)
    window = {"not_before": found.not_before, "not_after": found.not_after}
    site.agents.apply(CHILD, SignedPending(**window), issued=found)
    assert site.child().current != site.child().upcoming
    assert site.agents.claim(claim_of(claimer), token=token(1), agent=None, wait_s=0).current is not None
    site.agents.apply(CHILD, Proven())
    renewed = site.agents.claim(claim_of(claimer), token=token(1), agent=None, wait_s=0)
    assert renewed.current is not None
    assert renewed.current.number == 2
