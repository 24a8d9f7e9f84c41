"""The parts that the front's resources share; ca/front/role.py builds them once per worker, a test with
fakes.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine

from ca.certificates.profile import Profile
from ca.front.doorkeeper import Doorkeeper
from ca.front.enroller import Enroller
from ca.front.feed import RevocationFeed
from ca.front.recent import RecentRows
from ca.front.store_reads import StoreReads
from ostiary.capabilities import NO_CAPABILITIES, Capabilities
from ostiary.edge.clock import Clock
from ostiary.edge.metrics import Metrics
from ostiary.front.health import Readiness
from ostiary.front.offload import Offload
from ostiary.names import SubSystem
from ostiary.recorder.client import AsyncRecorderPort

Prover = Callable[[str | None, str, bytes], Awaitable[None]]
"""Called with address, host and the expected certificate (DER); dials and compares, or raises
Forbidden(rule=dial-back).
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontParts:
    """The parts, in the order in which a request meets them."""

    profile: Profile
    issuing: x509.Certificate
    root: x509.Certificate
    grants: Mapping[SubSystem, Capabilities]
    doorkeeper: Doorkeeper
    reads: StoreReads
    recent: RecentRows
    recording: AsyncRecorderPort
    enroller: Enroller
    feed: RevocationFeed
    prove: Prover
    readiness: Callable[[], Awaitable[Readiness]]
    clock: Clock
    metrics: Metrics
    # For the ledger's routes: read-only, used on the threads of `offload`.
    engine: Engine
    offload: Offload
    chain_pem: str = field(init=False)

    def __post_init__(self) -> None:
        # A leaf's holder sends this with its leaf. Not the root: a peer must have that already (RFC 8446
        # section 4.4.2 lets a trust anchor be omitted).
        object.__setattr__(self, "chain_pem", self.issuing.public_bytes(Encoding.PEM).decode("ascii"))

    def grant(self, subsystem: str) -> Capabilities:
        """The most that policy grants an agent of a sub-system; nothing where it does not name it."""
        return self.grants.get(SubSystem(subsystem), NO_CAPABILITIES)
