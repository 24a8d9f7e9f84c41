"""Who asks, on every request: the client certificate of the connection, read once and checked each time.

TLS has verified chain, key and purpose when the connection began; a connection may outlive all three. The
plan:
1. there is a certificate and its fields map to an identity of this application (else counted, not recorded:
   nobody is known);
2. it does not ask too often (else 429);
3. it is valid now (else recorded, with the identity);
4. the service has heard from the CA since it started (else Busy: it can't know who is revoked);
5. it is not revoked (else recorded, with the identity).
What the peer may do is policy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NoReturn, Protocol

from credsvc.front.refuser import Refuser
from credsvc.policy.cedar import AgentEntity
from ostiary.edge.clock import Clock
from ostiary.errors import Busy, Forbidden, Unauthenticated
from ostiary.front.http import check_pace
from ostiary.front.limits import Buckets, Limit
from ostiary.front.refusals import RefusalCounter
from ostiary.front.tls_peer import peer_value
from ostiary.identity import Identity
from ostiary.names import Application
from ostiary.peer import PeerCertificate, peer_item, read_peer
from ostiary.work.item import Peer

CALLER: Final = Limit(rate_per_s=4000, burst=8000)
"""Of one certificate, whatever it asks, per worker: more than one agent ever got out of one."""


class RevocationsPort(Protocol):
    """Which certificates are revoked; `age_s` is None until the CA was heard."""

    def is_revoked(self, serial_number: int) -> bool: ...
    def age_s(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmittedPeer:
    """Who asks, as the ledger names it and as policy sees it."""

    peer: Peer
    agent: AgentEntity


def peer_of_request(environ: Mapping[str, object]) -> PeerCertificate | None:
    """The certificate of a request's connection, parsed once per connection."""
    return peer_value(environ, read_peer)


class Gate:
    """Admits peers; see the module's docstring. Thread-safe; one per worker."""

    def __init__(
        self,
        *,
        application: Application,
        revocations: RevocationsPort,
        refuser: Refuser,
        refusals: RefusalCounter,
        clock: Clock,
        limit: Limit = CALLER,
        read: Callable[[Mapping[str, object]], PeerCertificate | None] = peer_of_request,
    ) -> None:
        self._application = application
        self._revocations = revocations
        self._refuser = refuser
        self._refusals = refusals
        self._clock = clock
        self._callers = Buckets(limit)
        self._read = read

    def count_unverified(self, source: str) -> None:
        """Count a request with a certificate that did not verify, of a source address."""
        self._refusals.add(source, "certificate-unverified")

    def admit(self, environ: Mapping[str, object], *, act: str, target: str) -> AdmittedPeer:
        """Check the peer of a request; `act` and `target` say in the ledger what a refused one wanted."""
        certificate = self._read(environ)  # 1.
        identity = certificate.identity if certificate is not None else None
        if certificate is None or identity is None or identity.application != self._application:
            self._refusals.add(str(environ.get("REMOTE_ADDR", "")), "identity")
            raise Unauthenticated("the client certificate does not name an agent of this application")
        check_pace(self._callers.take(certificate.serial, now_ns=self._clock.monotonic_ns()))  # 2.
        peer = peer_item(certificate.serial, identity)
        if not certificate.not_before <= self._clock.now() <= certificate.not_after:  # 3.
            self._refuse_expired(peer, act, target)
        age_s = self._revocations.age_s()  # 4.
        if age_s is None:
            raise Busy("the list of revoked certificates was not read yet")
        if self._revocations.is_revoked(certificate.serial_number):  # 5.
            reason = f"the certificate {peer.serial} is revoked"
            self._refuser.refuse(peer, act=act, target=target, rule="certificate-revoked", reason=reason)
        return AdmittedPeer(peer=peer, agent=_agent(identity, age_s))

    def _refuse_expired(self, peer: Peer, act: str, target: str) -> NoReturn:
        reason = f"the certificate {peer.serial} is not valid now: renew it"
        try:
            self._refuser.refuse(peer, act=act, target=target, rule="certificate-expired", reason=reason)
        except Forbidden as exc:  # recorded; who renews may come again
            raise Unauthenticated(reason, field="certificate") from exc


def _agent(identity: Identity, revocation_age_s: int) -> AgentEntity:
    return AgentEntity(
        agent=identity.agent,
        subsystem=identity.subsystem,
        node=identity.node,
        capabilities=frozenset(identity.capabilities),
        # A first certificate that is pending carries no capability (DESIGN section 5). A renewed one whose
        # key the CA has not seen yet does, but nothing that the active one of its lineage has not.
        active=bool(identity.capabilities),
        revocation_age_s=revocation_age_s,
    )
