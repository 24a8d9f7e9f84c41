"""Who asks, on every request: the client certificate of the connection, read once and checked each time.

TLS has verified chain, key and purpose when the connection began; a connection may outlive all three. The plan:
1. there is a certificate and its fields map to an identity of this application (else counted, not recorded: nobody is known);
2. it is valid now;
3. the service has heard from the CA since it started (else Busy: it can't know who is revoked);
4. it is not revoked (else recorded, with the identity).
What the peer may do is policy's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from credsvc.stages import RecorderPort
from ostiary.edge.clock import Clock
from ostiary.edge.refusals import RefusalCounter
from ostiary.edge.tls import peer_value
from ostiary.errors import Busy, Unauthenticated
from ostiary.identity import Identity
from ostiary.names import Application
from ostiary.peer import PeerCertificate, peer_item, read_peer
from ostiary.policy.cedar import AgentEntity
from ostiary.work.ca_items import Refuse
from ostiary.work.item import Peer


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """Admits peers; see the module's docstring."""

    application: Application
    revocations: RevocationsPort
    recorder: RecorderPort
    refusals: RefusalCounter
    clock: Clock
    read: Callable[[Mapping[str, object]], PeerCertificate | None] = peer_of_request

    def admit(self, environ: Mapping[str, object], *, act: str, target: str) -> AdmittedPeer:
        """Check the peer of a request; `act` and `target` say in the ledger what a revoked one wanted."""
        certificate = self.read(environ)  # 1.
        identity = certificate.identity if certificate is not None else None
        if certificate is None or identity is None or identity.application != self.application:
            raise self._unknown(environ, "identity")
        if not certificate.not_before <= self.clock.now() <= certificate.not_after:  # 2.
            raise self._unknown(environ, "validity")
        age_s = self.revocations.age_s()  # 3.
        if age_s is None:
            raise Busy("the list of revoked certificates was not read yet")
        peer = peer_item(certificate.serial, identity)
        if self.revocations.is_revoked(certificate.serial_number):  # 4.
            self._refuse_revoked(peer, act, target)
        return AdmittedPeer(peer=peer, agent=_agent(identity, age_s))

    def _unknown(self, environ: Mapping[str, object], reason: str) -> Unauthenticated:
        self.refusals.add(str(environ.get("REMOTE_ADDR", "")), reason)
        return Unauthenticated(_REASONS[reason])

    def _refuse_revoked(self, peer: Peer, act: str, target: str) -> None:
        reason = f"the certificate {peer.serial} is revoked"
        self.recorder.submit(
            Refuse(by=peer, act=act, target=target, rule="certificate-revoked", reason=reason)
        )
        raise AssertionError("the recorder took a refusal for an act")


_REASONS = {
    "identity": "the client certificate does not name an agent of this application",
    "validity": "the client certificate is not valid now: renew it",
}


def _agent(identity: Identity, revocation_age_s: int) -> AgentEntity:
    return AgentEntity(
        agent=identity.agent,
        subsystem=identity.subsystem,
        node=identity.node,
        capabilities=frozenset(identity.capabilities),
        # A first certificate that is pending carries no capability (DESIGN section 5). A renewed one whose key the CA has not seen yet
        # does, but nothing that the active one of its lineage has not.
        active=bool(identity.capabilities),
        revocation_age_s=revocation_age_s,
    )
