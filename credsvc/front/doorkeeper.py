"""Who gets in: the peer of a request, whether its certificate holds now, how often it may ask, and the record
of those refused.

TLS verified chain, key and purpose when the connection began; a connection may outlive all three. So every
request is checked again, in this order (the numbers stand in `Doorkeeper.identify`):
1. There is a certificate, and its fields map to an identity of this application. Otherwise the request is
   counted, not recorded: there is nobody to name.
2. It does not ask too often (else 429).
3. It is valid now (else recorded, with the identity).
4. The service has heard from the CA since it started (else Busy: it can't know who is revoked).
5. It is not revoked (else recorded, with the identity).
What the peer may do is policy's to say.

Refusals of somebody with an identity:
- They are an entry (`Refuse`) before they are an answer; a refusal that can't be recorded is answered Busy.
- One certificate writes at most `REFUSED` of them. Beyond that it gets 429 and no entry, so that a peer that
  is always refused cannot make the ledger grow as fast as it can ask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, NoReturn, Protocol

from credsvc.policy.cedar import AgentEntity
from ostiary.edge.clock import Clock
from ostiary.errors import Busy, Forbidden, Unauthenticated
from ostiary.front.http import check_pace
from ostiary.front.limits import Buckets, Limit
from ostiary.front.peer import peer_source, peer_value
from ostiary.front.refusals import RefusalCounter
from ostiary.identity import Identity
from ostiary.names import Application
from ostiary.peer import PeerCertificate, peer_item, read_peer
from ostiary.recorder.client import AsyncRecorderPort
from ostiary.work.item import Peer
from ostiary.work.reports import Refuse

CALLER: Final = Limit(rate_per_s=4000, burst=8000)
"""Of one certificate, whatever it asks, per worker: more than one agent ever got out of one."""
REFUSED: Final = Limit(rate_per_s=5, burst=200)
"""Per certificate and worker: a person who tries out a policy never meets it."""


class RevocationsPort(Protocol):
    """Which certificates are revoked; `age_s` is None until the CA has answered."""

    def is_revoked(self, serial_number: int) -> bool: ...
    def age_s(self) -> int | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A peer that was let in, as the ledger names it and as policy sees it."""

    peer: Peer
    agent: AgentEntity


class KnownPeer:
    """The peer of one connection: what its certificate says, made once for all of its requests."""

    def __init__(self, certificate: PeerCertificate) -> None:
        self.certificate = certificate
        identity = certificate.identity
        self.application = None if identity is None else identity.application
        self._caller = None if identity is None else _caller(certificate, identity)

    def caller(self, revocation_age_s: int) -> Caller:
        """The peer as policy sees it at this age of the news; it must have an identity."""
        caller = self._caller
        if caller is None:
            raise AssertionError("a peer without an identity")
        if caller.agent.revocation_age_s != revocation_age_s:
            agent = replace(caller.agent, revocation_age_s=revocation_age_s)
            caller = self._caller = Caller(peer=caller.peer, agent=agent)
        return caller


def known_peer(der: bytes) -> KnownPeer:
    """Read a client certificate (DER)."""
    return KnownPeer(read_peer(der))


def peer_of_request() -> KnownPeer | None:
    """The peer of a request's connection, parsed once per connection."""
    return peer_value(known_peer)


class Refuser:
    """Records the refusals of those who are known; one per worker, for its loop alone."""

    def __init__(self, recorder: AsyncRecorderPort, clock: Clock, *, limit: Limit = REFUSED) -> None:
        self._recorder = recorder
        self._clock = clock
        self._buckets = Buckets(limit)

    async def refuse(self, peer: Peer, *, act: str, target: str, rule: str, reason: str) -> NoReturn:
        """Record a refusal and raise it: the recorder answers a refusal with Forbidden, or Busy."""
        check_pace(self._buckets.take(peer.serial, now_ns=self._clock.monotonic_ns()))
        await self._recorder.submit(Refuse(by=peer, act=act, target=target, rule=rule, reason=reason))
        raise AssertionError("the recorder took a refusal for an act")


class Doorkeeper:
    """Lets requests in; see the module's docstring. One per worker, for its loop alone."""

    def __init__(
        self,
        *,
        application: Application,
        revocations: RevocationsPort,
        refuser: Refuser,
        refusals: RefusalCounter,
        clock: Clock,
        limit: Limit = CALLER,
        read: Callable[[], KnownPeer | None] = peer_of_request,
    ) -> None:
        self._application = application
        self._revocations = revocations
        self._refuser = refuser
        self._refusals = refusals
        self._clock = clock
        self._callers = Buckets(limit)
        self._read = read

    def count_unverified(self, source: str) -> None:
        """Count a request whose certificate did not verify, by its source address."""
        self._refusals.add(source, "certificate-unverified")

    async def identify(self, *, act: str, target: str) -> Caller:
        """Authenticate the peer of the current request; `act` and `target` tell the ledger what a refused one
        wanted.

        Raises Unauthenticated (1, 3), 429 (2), Busy (4) and Forbidden(rule=certificate-revoked) (5).
        """
        # 1. A certificate that names an agent of this application.
        known = self._read()
        if known is None or known.application != self._application:
            self._refusals.add(peer_source(), "identity")
            raise Unauthenticated("the client certificate does not name an agent of this application")
        certificate = known.certificate
        # 2. The pace comes before everything that costs a look or an entry.
        check_pace(self._callers.take(certificate.serial, now_ns=self._clock.monotonic_ns()))
        age_s = self._revocations.age_s()
        caller = known.caller(age_s or 0)
        # 3. Valid now, not only when the handshake was made.
        if not certificate.not_before <= self._clock.now() <= certificate.not_after:
            await self._refuse_expired(caller.peer, act, target)
        # 4. Fail closed: before the first answer of the feed, a revoked certificate looks like any other.
        if age_s is None:
            raise Busy("the list of revoked certificates has not been read yet")
        # 5. Not revoked. Known before open connections are cut (`credsvc.front.revocations`), so a connection
        #    made in between ends here.
        if self._revocations.is_revoked(certificate.serial_number):
            reason = f"the certificate {caller.peer.serial} is revoked"
            await self._refuser.refuse(
                caller.peer, act=act, target=target, rule="certificate-revoked", reason=reason
            )
        return caller

    def check_pace(self, caller: Caller) -> None:
        """Count one of several acts of a caller that was let in; 429 where there are too many."""
        check_pace(self._callers.take(caller.peer.serial, now_ns=self._clock.monotonic_ns()))

    async def _refuse_expired(self, peer: Peer, act: str, target: str) -> NoReturn:
        reason = f"the certificate {peer.serial} is not valid now: renew it"
        try:
            await self._refuser.refuse(
                peer, act=act, target=target, rule="certificate-expired", reason=reason
            )
        except Forbidden as exc:
            # Recorded as a denial, answered as 401: unlike a Forbidden, a renewal mends it.
            raise Unauthenticated(reason, field="certificate") from exc


def _caller(certificate: PeerCertificate, identity: Identity) -> Caller:
    return Caller(
        peer=peer_item(certificate.serial, identity),
        agent=AgentEntity(
            agent=identity.agent,
            subsystem=identity.subsystem,
            node=identity.node,
            capabilities=frozenset(identity.capabilities),
            # A first certificate is pending until its agent has proven its address, and carries no capability
            # (docs/issuance.md, steps 5 to 7). A renewed one whose key the CA has not seen
            # yet does, but never one that the active certificate of its lineage lacks.
            active=bool(identity.capabilities),
            revocation_age_s=0,
        ),
    )
