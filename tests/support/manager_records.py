"""Records, certificates and documents for the manager's tests, right by default; no network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final

from cryptography import x509

from certmgr.agents import Agents, Node
from certmgr.binding import ManagerProcess, Peer
from certmgr.issued import Issued, Wanted, check_issued
from certmgr.keys import KeyPair, Names, generate
from certmgr.lifecycle import AgentState, Life
from certmgr.record import Generation, Record
from certmgr.scopes import Process
from ostiary.capabilities import parse_capabilities
from ostiary.identity import Identity, parse_agent_id
from ostiary.subsystems import CERTIFICATE_MANAGER
from ostiary.token import Token, mint
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import IDENTITY, NOW
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
KEYS: Final = generate(NAMES)
ENDPOINTS: Final = tuple(map(str, IDENTITY.endpoints))


@cache
def authority() -> AuthorityForTests:
    return AuthorityForTests(now=NOW)


def leaf(identity: Identity = IDENTITY, keys: KeyPair = KEYS, *, pending: bool = False) -> x509.Certificate:
    request = x509.load_der_x509_csr(keys.csr_der)
    ca = authority()
    return ca.leaf(ca.plan(identity, key=request.public_key(), pending=pending))  # type: ignore[arg-type] # P-256


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
            self.lacks = "the kernel keeps no more keys of this user (EDQUOT)"
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
