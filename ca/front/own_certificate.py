"""The front's own TLS key and certificate. The key is made in the worker's memory and never leaves it.

Rules:
- The certificate names the CA on its node (sub-system certificate-authority, the node's name in its SAN),
  carries no capability, and is recorded and signed like any other. Each worker is an agent of its own.
- It is replaced after two thirds of its lifetime; new connections get the new one, without a restart. As long
  as that fails, the old one serves.
- TLS 1.2 is spoken, too: this is where agents begin, whatever their clients can do.
- Each certificate comes with its own staple (ca/front/staple.py).
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from ca.certificates.profile import Profile
from ca.front.enrollment import RANDOM_BYTES, Wanted, certificate_of, prepare_for_key
from ca.front.store_reads import StoreReads
from ca.items import FrontCertificate
from ostiary.capabilities import NO_CAPABILITIES
from ostiary.certificate import spki_der
from ostiary.edge.clock import Clock
from ostiary.edge.tls import build_identity_pem
from ostiary.errors import InternalFault, OstiaryError
from ostiary.front.tls import FrontTLS, front_tls
from ostiary.identity import Identity
from ostiary.names import NodeName, parse_agent_id
from ostiary.recorder.client import AsyncRecorderPort
from ostiary.subsystems import CERTIFICATE_AUTHORITY

_log = logging.getLogger("ostiary.ca.front")
# As long as the supervisor waits for a role (READY_TIMEOUT_S in ostiary/supervisor.py).
START_S: Final = 20.0
RETRY_S: Final = 0.2
CHECK_S: Final = 1.0

BeginStaple: TypeAlias = Callable[[x509.Certificate], Awaitable[Callable[[], bytes]]]
"""Called with a new certificate; returns what is called at each handshake with it for the OCSP response
(DER), empty for none.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Authority:
    """The chain above the front's certificate, and the node that it names."""

    profile: Profile
    issuing: x509.Certificate
    root: x509.Certificate
    node: NodeName


class OwnCertificate:
    """Owner of the current TLS context; `run` is a task."""

    def __init__(
        self,
        authority: Authority,
        *,
        recording: AsyncRecorderPort,
        reads: StoreReads,
        staple: BeginStaple,
        clock: Clock,
        random: Callable[[int], bytes],
    ) -> None:
        self._authority = authority
        self._recording = recording
        self._reads = reads
        self._staple = staple
        self._clock = clock
        self._random = random
        # A version 4 UUID (RFC 9562 section 5.4) for as long as the worker lives.
        self._agent = parse_agent_id(str(uuid.UUID(bytes=random(16), version=4)))
        self._tls: FrontTLS | None = None
        self._renew_at = self._not_after = datetime.min.replace(tzinfo=UTC)

    def tls(self) -> FrontTLS:
        """For a new connection."""
        if self._tls is None:
            raise InternalFault("the front has no certificate yet")
        return self._tls

    @property
    def is_valid(self) -> bool:
        """Whether there is a certificate that has not expired. Without one the front is not ready, which only
        happens after replacing it has failed for a third of its lifetime.
        """
        return self._clock.now() < self._not_after

    async def obtain_first(self) -> None:
        """Wait up to START_S for the recorder and its keyholder; raises their last error."""
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + START_S
        while True:
            try:
                await self.obtain()
            except OstiaryError:
                if loop.time() > deadline_s:
                    raise
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def obtain(self) -> None:
        """Make a key and have it certified.

        1. Make a key.
        2. Prepare a certificate for it, like an agent's.
        3. Have it recorded and signed.
        4. Ask for its status, to be stapled to it.
        5. Serve with it from the next connection on.
        """
        authority = self._authority
        now = self._clock.now()
        # 1. P-256: a handshake costs one signature (34 us), and every client takes it.
        key = ec.generate_private_key(ec.SECP256R1())
        lifetime = authority.profile.lifetime
        # 2.
        identity = Identity(
            application=authority.profile.application,
            subsystem=CERTIFICATE_AUTHORITY,
            node=authority.node,
            agent=self._agent,
            endpoints=(),
            capabilities=NO_CAPABILITIES,
            node_name_in_san=True,
        )
        prepared = prepare_for_key(
            authority.profile,
            Wanted(identity=identity, lifetime=lifetime, pending=False),
            spki_der(key.public_key()),
            shard=await self._reads.shard_for_new(now),
            now=now,
            random_bytes=self._random(RANDOM_BYTES),
        )
        # 3.
        recorded = await self._recording.submit(FrontCertificate(certificate=prepared))
        leaf = x509.load_der_x509_certificate(certificate_of(authority.profile, prepared, recorded))
        # 4.
        staple = await self._staple(leaf)
        # 5. Set whole: it is read once for each connection. Certificates are optional: tokens come without.
        self._tls = front_tls(
            build_identity_pem(key, [leaf, authority.issuing]),
            authority.root.public_bytes(Encoding.PEM),
            client_certificates="optional",
            oldest="TLS 1.2",
            staple=staple,
        )
        self._not_after = leaf.not_valid_after_utc
        self._renew_at = now + lifetime * 2 / 3

    async def run(self) -> None:
        """Replace the certificate in time, until cancelled."""
        while True:
            await asyncio.sleep(CHECK_S)
            if self._clock.now() < self._renew_at:
                continue
            try:
                await self.obtain()
            except OstiaryError as exc:
                self._reads.forget_shard()
                _log.warning("own-certificate-not-renewed", extra={"problem": exc.message})
