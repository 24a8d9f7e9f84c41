"""Records, certificates, agents and a node for the manager's tests, valid by default; no network."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509

from certmgr.agents import AgentRequest, Agents, Node
from certmgr.binding import Claim, ManagerProcess, Peer
from certmgr.issued import Issued, Wanted, check_issued
from certmgr.keys import KeyPair, Names, generate
from certmgr.lifecycle import AgentState, Life, SignedActive
from certmgr.record import Generation, Record
from certmgr.scopes import Process
from ostiary.capabilities import parse_capabilities
from ostiary.identity import Identity, parse_agent_id, parse_subsystem
from ostiary.subsystems import CERTIFICATE_MANAGER, NODE_CONTROLLER
from ostiary.token import Token, mint
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import AGENT, IDENTITY, NOW
from tests.support.fake_processes import FakeProcesses

MANAGER_AGENT: Final = parse_agent_id("0a0a0a0a-0000-4000-8000-000000000001")
NAMES: Final = Names(
    application=IDENTITY.application, subsystem=IDENTITY.subsystem, node=IDENTITY.node, agent=IDENTITY.agent
)
MANAGER_NAMES: Final = Names(
    application=IDENTITY.application,
    subsystem=CERTIFICATE_MANAGER,
    node=IDENTITY.node,
    agent=MANAGER_AGENT,
)
CHILD: Final = parse_agent_id(AGENT)
CONTROLLER: Final = parse_agent_id("0a0a0a0a-0000-4000-8000-000000000002")
CONTROLLER_NAMES: Final = replace(MANAGER_NAMES, subsystem=NODE_CONTROLLER, agent=CONTROLLER)
CONTROLLER_IDENTITY: Final = replace(
    IDENTITY,
    subsystem=NODE_CONTROLLER,
    agent=CONTROLLER,
    endpoints=(),
    capabilities=parse_capabilities(["spawn:component-harness"]),
)
KEYS: Final = generate(NAMES)
ENDPOINTS: Final = tuple(map(str, IDENTITY.endpoints))


@cache
def authority() -> AuthorityForTests:
    return AuthorityForTests(now=NOW)


def leaf(identity: Identity = IDENTITY, keys: KeyPair = KEYS, *, pending: bool = False) -> x509.Certificate:
    request = x509.load_der_x509_csr(keys.csr_der)
    ca = authority()
    key: Any = request.public_key()  # P-256
    return ca.leaf(ca.plan(identity, key=key, pending=pending))


def wanted(keys: KeyPair = KEYS, names: Names = NAMES) -> Wanted:
    return Wanted(
        names=names,
        spki_der=keys.spki_der,
        endpoints=ENDPOINTS,
        capabilities=parse_capabilities(["credential:use", "spawn:component"]),
    )


def issued(identity: Identity = IDENTITY, keys: KeyPair = KEYS) -> Issued:
    names = Names(
        application=identity.application,
        subsystem=identity.subsystem,
        node=identity.node,
        agent=identity.agent,
    )
    asked = Wanted(names=names, spki_der=keys.spki_der)
    ca = authority()
    return check_issued([leaf(identity, keys), ca.issuing], root=ca.root, wanted=asked, now=NOW)


def record(**changes: Any) -> Record:
    """An active agent, claimed by nobody yet."""
    window = (NOW - timedelta(seconds=60), NOW + timedelta(hours=2))
    given: dict[str, Any] = {
        "names": NAMES,
        "life": Life(state=AgentState.ACTIVE, due=NOW + timedelta(hours=1), installed=True, used=window),
        "capabilities": parse_capabilities(["credential:use"]),
        "endpoints": ENDPOINTS,
        "claim_digest": token(1).digest,
        "claim_by": None,
        "spawn": None,
        "uid": None,
        "named": None,
        "current": Generation(number=1, keys=KEYS, issued=issued()),
    }
    return Record(**given | changes)


def token(number: int) -> Token:
    return mint(bytes([number]) * 42)


@dataclass(kw_only=True)
class FakeClock:
    """A clock that a test sets."""

    at: datetime = NOW

    def now(self) -> datetime:
        return self.at.astimezone(UTC)

    def epoch_ms(self) -> int:
        return int(self.at.timestamp() * 1000)

    def monotonic_ns(self) -> int:
        return int(self.at.timestamp() * 1e9)


@dataclass(kw_only=True)
class MemoryVault:
    """Contents that outlive a manager in a test; `full` is a kernel over its quota."""

    contents: dict[str, bytes] = field(default_factory=dict)
    lacks: str | None = None
    full: bool = False

    def save(self, name: str, content: bytes, *, timeout_s: int) -> bool:
        assert timeout_s > 0
        if self.full:
            self.lacks = "the kernel takes no more keys of this user (EDQUOT)"
            return False
        self.contents[name] = content
        return True

    def drop(self, name: str) -> None:
        self.contents.pop(name, None)

    def load(self) -> dict[str, bytes]:
        return dict(self.contents)


def make_agents(
    machine: FakeProcesses,
    *,
    vault: MemoryVault | None = None,
    clock: FakeClock | None = None,
    jitter: Callable[[], float] = lambda: 0.5,
) -> Agents:
    node = Node(
        application=IDENTITY.application,
        node=IDENTITY.node,
        manager=MANAGER_AGENT,
        process=ManagerProcess(uid=0, pid=10),
    )
    return Agents(node, view=machine, vault=vault or MemoryVault(), clock=clock or FakeClock(), jitter=jitter)


def peer(process: Process, uid: int = 0) -> Peer:
    return Peer(uid=uid, process=process)


def claim_of(process: Process, *, uid: int = 0, has_token: bool = True, lease: bool = False) -> Claim:
    return Claim(peer=peer(process, uid), has_token=has_token, wants_lease=lease)


def claimed(
    agents: Agents, claim: Claim, *, token: Token | None, agent: str | None = None, wait_s: float = 0
) -> Record:
    """Claim, on a loop of its own."""
    return asyncio.run(agents.claim(claim, token=token, agent=agent, wait_s=wait_s))


def install_certificate(agents: Agents, agent: str, found: Issued) -> None:
    """The authority signs, and the first certificate is good at once."""
    agents.with_key(agent)
    window = {"not_before": found.not_before, "not_after": found.not_after}
    agents.apply(agent, SignedActive(**window), issued=found)


class FakeNode:
    """A node with its controller active and claimed by process 20."""

    def __init__(self, vault: MemoryVault | None = None) -> None:
        self.machine = FakeProcesses()
        self.machine.add(1, parent=0)
        self.machine.add(10)
        self.controller = self.machine.add(20)
        self.clock = FakeClock()
        self.vault = vault or MemoryVault()
        self.agents = make_agents(self.machine, vault=self.vault, clock=self.clock)

    def ready(self) -> FakeNode:
        self.agents.introduce(MANAGER_NAMES, token(8))
        self.agents.introduce(CONTROLLER_NAMES, token(9))
        install_certificate(self.agents, CONTROLLER, self.issued(CONTROLLER))
        claimed(self.agents, claim_of(self.controller), token=token(9))
        return self

    def issued(self, agent: str) -> Issued:
        record = self.agents.with_key(agent)
        assert record is not None
        assert record.upcoming is not None
        identity = CONTROLLER_IDENTITY if agent == CONTROLLER else IDENTITY
        return issued(identity, record.upcoming.keys)

    def spawn(self, **changes: Any) -> None:
        given: dict[str, Any] = {
            "subsystem": parse_subsystem("component-harness"),
            "capabilities": IDENTITY.capabilities,
            "endpoints": tuple(map(str, IDENTITY.endpoints)),
            "uid": None,
            "named": None,
        }
        request = AgentRequest(**given | changes)
        self.agents.spawn(peer(self.controller), request, CHILD, token(1))

    def installed(self) -> None:
        install_certificate(self.agents, CHILD, self.issued(CHILD))

    def child(self) -> Record:
        found = self.agents.get(CHILD)
        assert found is not None
        return found
