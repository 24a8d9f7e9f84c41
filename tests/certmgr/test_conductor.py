"""The authority's answers as events: each call fails before and after it takes effect, and lives go on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from certmgr.agents import AgentRequest, Agents
from certmgr.conductor import Conductor
from certmgr.est_client import SpawnRequest
from certmgr.issued import Issued, Wanted, check_issued
from certmgr.keys import generate
from certmgr.lifecycle import Action, ScopeEnded
from ostiary.capabilities import Capabilities, parse_capabilities
from ostiary.certificate import SerialHex
from ostiary.edge.clock import SystemClock
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    InternalFault,
    NotFound,
    OstiaryError,
    Unauthenticated,
)
from ostiary.identity import Identity, parse_endpoint, parse_subsystem
from ostiary.token import Token
from tests.support.certificates import NOW
from tests.support.fake_processes import FakeProcesses
from tests.support.manager_records import (
    CHILD,
    CONTROLLER,
    CONTROLLER_NAMES,
    MANAGER_AGENT,
    MANAGER_NAMES,
    FakeClock,
    authority,
    claim_of,
    claimed,
    leaf,
    make_agents,
    peer,
    token,
)
from tests.support.waiting import PATIENCE_S, until

_ANY_KEYS = generate(MANAGER_NAMES)
GRANTS = {
    "certificate-manager": parse_capabilities(["enroll:node"]),
    "node-controller": parse_capabilities(["spawn:component-harness"]),
}


@dataclass(kw_only=True)
class FakeAuthority:
    """An authority in memory; the next call of a verb raises what `fail` or `fail_after` holds for it.

    `fail` is raised before the call takes effect, `fail_after` afterwards.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    fail: dict[str, OstiaryError] = field(default_factory=dict)
    fail_after: dict[str, OstiaryError] = field(default_factory=dict)
    retired: list[str] = field(default_factory=list)
    proof: str = "active"
    given: dict[bytes, Issued] = field(default_factory=dict)
    kinds: dict[bytes, str] = field(default_factory=dict)

    def _sign(self, verb: str, csr_der: bytes, wanted: Wanted, capabilities: Capabilities) -> Issued:
        self._maybe(verb, self.fail)
        if csr_der not in self.given:
            identity = Identity(
                application=wanted.names.application,
                subsystem=wanted.names.subsystem,
                node=wanted.names.node,
                agent=wanted.names.agent,
                endpoints=tuple(map(parse_endpoint, wanted.endpoints or ())),
                capabilities=capabilities,
            )
            keys = replace(_ANY_KEYS, csr_der=csr_der)
            ca = authority()
            self.given[csr_der] = check_issued(
                [leaf(identity, keys), ca.issuing], root=ca.root, wanted=wanted, now=NOW
            )
        self.kinds[self.given[csr_der].certificate.public_bytes(Encoding.PEM)] = verb
        self._maybe(verb, self.fail_after)
        return self.given[csr_der]

    def _maybe(self, verb: str, failures: dict[str, OstiaryError]) -> None:
        if failures is self.fail:
            self.calls.append(verb)
        if verb in failures:
            raise failures.pop(verb)

    def redeem(self, token: Token, csr_der: bytes, wanted: Wanted) -> Issued:
        return self._sign("redeem", csr_der, wanted, frozenset())

    def spawn(self, manager_pem: bytes, request: SpawnRequest) -> Issued:
        assert b"PRIVATE KEY" in manager_pem
        return self._sign(
            "spawn", request.csr_der, request.wanted, request.wanted.capabilities or frozenset()
        )

    def renew(self, identity_pem: bytes, csr_der: bytes, wanted: Wanted) -> Issued:
        return self._sign("renew", csr_der, wanted, GRANTS.get(wanted.names.subsystem, frozenset()))

    def prove(self, identity_pem: bytes, serial: SerialHex) -> str:
        self._maybe("prove", self.fail)
        return self.proof

    def status(self, identity_pem: bytes) -> str:
        self._maybe("status", self.fail)
        renewed = [pem for pem, verb in self.kinds.items() if verb == "renew"]
        return "active" if any(pem in identity_pem for pem in renewed) else "pending"

    def retire(self, manager_pem: bytes, serial: SerialHex) -> None:
        self._maybe("retire", self.fail)
        self.retired.append(serial)


class ConductedNode:
    """A node whose time stands still, except that `settle` performs everything that is due."""

    def __init__(self) -> None:
        self.machine = FakeProcesses()
        self.machine.add(1, parent=0)
        self.controller = self.machine.add(20)
        self.clock = FakeClock()
        self.agents: Agents = make_agents(self.machine, clock=self.clock)
        self.authority = FakeAuthority()
        tokens: dict[str, Token] = {MANAGER_AGENT: token(8), CONTROLLER: token(9)}
        self.conductor = Conductor(self.agents, self.authority, tokens=tokens, clock=self.clock)
        self.agents.introduce(MANAGER_NAMES, token(8))
        self.agents.introduce(CONTROLLER_NAMES, token(9))

    def settle(self, *, rounds: int = 12) -> None:
        for _ in range(rounds):
            self.turn()
            self.clock.at += timedelta(seconds=1)

    def turn(self) -> None:
        for agent, actions in self.agents.take_due():
            for action in actions:
                self.conductor.perform(agent, action)

    def spawn(self) -> None:
        claimed(self.agents, claim_of(self.controller), token=token(9))
        request = AgentRequest(
            subsystem=parse_subsystem("component-harness"),
            capabilities=parse_capabilities(["credential:use"]),
            endpoints=(),
            uid=None,
            named=None,
        )
        self.agents.spawn(peer(self.controller), request, CHILD, token(1))

    def state(self, agent: str) -> str:
        record = self.agents.get(agent)
        return record.life.state.value if record else "gone"


@pytest.fixture
def node() -> ConductedNode:
    return ConductedNode()


def test_a_node_starts(node: ConductedNode) -> None:
    node.settle()
    assert (node.state(MANAGER_AGENT), node.state(CONTROLLER)) == ("active", "active")
    manager = node.agents.get(MANAGER_AGENT)
    assert manager is not None
    assert manager.current is not None
    assert manager.current.issued is not None
    assert manager.current.issued.identity.capabilities == GRANTS["certificate-manager"]


LATER = [
    Busy("full"),
    InternalFault("x"),
    Forbidden("not you", rule="server-certificate"),
    Forbidden("clock", rule="validity"),
    Forbidden("in 60 s", rule="renewal-early"),
    Forbidden("in 60 s", rule="renewal-pace"),
]


@pytest.mark.parametrize("verb", ["redeem", "prove", "status", "renew"])
@pytest.mark.parametrize("error", LATER, ids=str)
@pytest.mark.parametrize("when", ["fail", "fail_after"])
def test_temporary_failures_are_retried(
    node: ConductedNode, verb: str, error: OstiaryError, when: str
) -> None:
    getattr(node.authority, when)[verb] = error
    node.settle(rounds=40)
    assert (node.state(MANAGER_AGENT), node.state(CONTROLLER)) == ("active", "active")
    assert len(node.authority.given) == 4  # a lost answer is given again: no second key for one step


@pytest.mark.parametrize(
    "error",
    [
        Unauthenticated("spent"),
        Forbidden("no", rule="token-address"),
        BadInput("csr"),
        Conflict("x"),
        NotFound("y"),
    ],
    ids=str,
)
def test_a_refused_token_ends_the_agent(node: ConductedNode, error: OstiaryError) -> None:
    node.authority.fail["redeem"] = error
    node.settle()
    assert sorted((node.state(MANAGER_AGENT), node.state(CONTROLLER))) in (
        ["active", "refused"],
        ["refused", "renewing"],
    )


def test_a_failing_dial_back_is_retried_until_the_proof_is_late(node: ConductedNode) -> None:
    node.authority.proof = "pending"
    node.authority.fail["prove"] = Forbidden("does not answer", rule="dial-back")
    node.settle()
    assert {node.state(MANAGER_AGENT), node.state(CONTROLLER)} == {"pending"}
    node.authority.fail["prove"] = Forbidden("proof late", rule="proof-late")
    node.settle()
    assert "refused" in {node.state(MANAGER_AGENT), node.state(CONTROLLER)}


def test_a_spawn_waits_for_the_manager_itself() -> None:
    node = ConductedNode()
    node.authority.fail["redeem"] = Busy("down")
    record = node.agents.get(CONTROLLER)
    assert record is not None
    node.settle(rounds=30)
    node.spawn()
    node.settle()
    assert node.state(CHILD) == "active"


OF_THE_MANAGER = [
    Forbidden("superseded", rule="certificate-superseded", field="certificate"),
    Forbidden("revoked", rule="certificate-revoked", field="certificate"),
    Unauthenticated("expired", field="certificate"),
]


@pytest.mark.parametrize("error", [*OF_THE_MANAGER, Forbidden("no", rule="spawn-not-manager")], ids=str)
def test_a_spawn_survives_the_renewal_of_its_manager(node: ConductedNode, error: OstiaryError) -> None:
    node.settle()
    node.authority.fail["spawn"] = error
    node.spawn()
    node.settle()
    assert node.state(CHILD) == "active"


def test_a_lineage_that_was_revoked_before_counts_as_retired(
    node: ConductedNode, caplog: pytest.LogCaptureFixture
) -> None:
    node.settle()
    node.spawn()
    node.settle()
    node.authority.fail["retire"] = Forbidden("revoked already", rule="certificate-revoked")
    node.agents.apply(CHILD, ScopeEnded())
    caplog.clear()
    node.settle()
    assert node.state(CHILD) == "ended"
    assert "authority-refused-or-failed" not in caplog.messages


@pytest.mark.parametrize(
    "error",
    [
        Busy("down"),
        Unauthenticated("who are you"),
        *OF_THE_MANAGER,
        Forbidden("no", rule="retire-stranger"),
    ],
    ids=str,
)
def test_a_retirement_is_retried_until_it_succeeds(node: ConductedNode, error: OstiaryError) -> None:
    node.settle()
    node.spawn()
    node.settle()
    node.authority.fail["retire"] = error
    node.agents.apply(CHILD, ScopeEnded())
    node.settle()
    assert node.state(CHILD) == "ended"
    assert len(node.authority.retired) == 1


@pytest.mark.parametrize("error", [Conflict("revoked"), NotFound("gone"), Forbidden("no", rule="x")], ids=str)
def test_a_certificate_that_has_already_ended_counts_as_retired(
    node: ConductedNode, error: OstiaryError
) -> None:
    node.settle()
    node.spawn()
    node.settle()
    node.authority.fail["retire"] = error
    node.agents.apply(CHILD, ScopeEnded())
    node.settle()
    assert node.state(CHILD) == "ended"


def test_an_unexpected_exception_backs_off_like_an_outage(
    node: ConductedNode, caplog: pytest.LogCaptureFixture
) -> None:
    broken: Callable[..., str] = node.authority.status
    node.authority.status = None  # type: ignore[method-assign,assignment] # so that calling it is a TypeError
    node.turn()
    node.turn()
    assert "unexpected" in caplog.text
    node.authority.status = broken  # type: ignore[method-assign] # mended
    node.settle(rounds=30)
    assert node.state(MANAGER_AGENT) == "active"


def test_an_action_for_a_forgotten_agent_does_nothing(node: ConductedNode) -> None:
    node.conductor.perform("nobody", Action.ASK)
    assert node.authority.calls == []


def test_run_does_what_is_due_and_stops() -> None:
    node = ConductedNode()
    clock = SystemClock()
    conductor = Conductor(
        node.agents, node.authority, tokens={MANAGER_AGENT: token(8), CONTROLLER: token(9)}, clock=clock
    )
    running = threading.Thread(target=conductor.run)
    running.start()
    until(lambda: "redeem" in node.authority.calls)
    conductor.stop()
    running.join(PATIENCE_S)
    assert not running.is_alive()
