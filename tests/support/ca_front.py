"""A whole front in memory: the real application, store and decisions; signing, time, TLS and the wire are
fakes.
"""

from __future__ import annotations

import asyncio
import base64
import json
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha512
from pathlib import Path
from typing import Any

import falcon.testing
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

from ca.front.app import build_app
from ca.front.doorkeeper import LIMITS, Doorkeeper, DoorLimits
from ca.front.enroller import STAGES, Enroller
from ca.front.feed import RevocationFeed
from ca.front.parts import FrontParts
from ca.front.recent import RecentRows
from ca.front.store_reads import StoreReads
from ca.items import MintToken
from ca.recorder.publishing import Publisher
from ca.recorder.recording import CAService, CASettings
from ca.store.reader import StoreReader
from ca.store.tables import METADATA
from ostiary.capabilities import parse_capabilities
from ostiary.edge.metrics import Metrics
from ostiary.errors import Busy
from ostiary.front.health import Readiness
from ostiary.front.offload import Offload
from ostiary.front.peer import Peer
from ostiary.front.refusals import RefusalCounter
from ostiary.names import SubSystem, parse_agent_id
from ostiary.recorder.service import Asked, Settled
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from ostiary.token import RANDOM_BYTES, Token, mint
from ostiary.work.answer import Recorded, Refused, refusal_error
from ostiary.work.item import Item, Operator
from ostiary.work.item_encoding import encode_item
from ostiary.work.reports import Refusals, Refuse
from tests.support.asgi import peer_from, seen_by
from tests.support.awaited import AwaitedRecorder
from tests.support.ca_authority import CONFIG, AuthorityForTests
from tests.support.still_clock import ClockForTests

NODE = "n1.nodes.shop.example"
MANAGER = "11111111-1111-4111-8111-111111111111"
CONTROLLER = "22222222-2222-4222-8222-222222222222"
CHILD = "33333333-3333-4333-8333-333333333333"
OPERATOR = Operator(uid=0, name="root")
GRANTS = {
    "node-controller": ("ledger:read", "spawn:component-harness"),
    "certificate-manager": ("enroll:node",),
    "component-harness": ("credential:use", "spawn:component"),
}


class RecordingForTests:
    """Decides with the CA's own decisions, and signs what they let through; `items` is what a ledger would
    have.
    """

    def __init__(self, authority: AuthorityForTests, clock: ClockForTests, store: Path) -> None:
        self._authority = authority
        self._clock = clock
        self._engine = open_for_writing(sqlite_url(store))
        weakref.finalize(self, self._engine.dispose)
        METADATA.create_all(self._engine)
        settings = CASettings(
            origin="shop.example/ca",
            node="ca.nodes.shop.example",
            grants={name: frozenset(held) for name, held in GRANTS.items()},
            signature_algorithm_der=authority.profile.signature_algorithm_der,
            max_lifetime_s=CONFIG.lifetime_s,
            max_node_lifetime_s=CONFIG.node_service_lifetime_s,
        )
        publisher = Publisher(authority.crl_issuer, crl_base_url=CONFIG.crl_base_url)
        self._service = CAService(settings, publisher)
        self.items: list[tuple[str, Item]] = []
        self.is_away = False

    def submit(self, item: Item) -> Recorded:
        if self.is_away:
            raise Busy("the recorder is busy or its keyholder is away")
        asked = Asked(item=item, raw=encode_item(item))
        with self._engine.begin() as tx:
            rulings = self._service.decide(tx, [asked], now_ms=self._clock.epoch_ms())
            self.items += [(ruling.verdict.decision, ruling.item) for ruling in rulings]
            answer = next(ruling for ruling in rulings if ruling.answers == 0)
            output = answer.known_output
            if answer.attachment is not None:
                output = self._sign(answer.item.certificate.tbs)  # type: ignore[attr-defined]
                self._service.settle(tx, [Settled(item=answer.item, index=0, output=output)])
        if answer.verdict.decision == "denied":
            raise refusal_error(
                Refused(by="recorder", rule=answer.verdict.rule, reason=answer.verdict.reason)
            )
        return Recorded(index=len(self.items) - 1, output=output, substitute=answer.substitute)

    def _sign(self, tbs: bytes) -> bytes:
        return self._authority.key.sign(tbs, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))

    def kinds(self) -> list[tuple[str, str]]:
        """What was recorded, as (decision, kind)."""
        return [(decision, type(item).__name__) for decision, item in self.items]

    def refusals(self) -> list[tuple[str, str]]:
        """The front's own refusals, as (act, rule)."""
        return [(item.act, item.rule) for _, item in self.items if isinstance(item, Refuse)]


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A key and its certificate in a client's hands."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def serial(self) -> str:
        number = self.certificate.serial_number
        return number.to_bytes((number.bit_length() + 7) // 8, "big").hex()


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def csr_of(key: ec.EllipticCurvePrivateKey, subject: x509.Name | None = None) -> bytes:
    """A request (DER) without names, or with `subject`."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject or x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def basic(token: Token) -> str:
    text = f"{token.id}:{token.reveal()}"
    return "Basic " + base64.b64encode(text.encode()).decode()


@dataclass
class FrontForTests:
    """A front and its clients."""

    directory: Path
    limits: DoorLimits = LIMITS
    authority: AuthorityForTests = field(default_factory=AuthorityForTests)
    clock: ClockForTests = field(default_factory=ClockForTests)
    proofs: list[tuple[str | None, str, bytes]] = field(default_factory=list)
    prove_error: Exception | None = None
    cut: list[int] = field(default_factory=list)
    counter: int = 0

    def __post_init__(self) -> None:
        store = self.directory / "store.sqlite"
        self.recording = RecordingForTests(self.authority, self.clock, store)
        self.reader = StoreReader(open_for_reading(sqlite_url(store)))
        # Its connections end with it: CPython 3.13 warns of one that is collected while open.
        weakref.finalize(self, self.reader.engine.dispose)
        offload = Offload(threads=2)
        weakref.finalize(self, offload.close)
        self.reads = StoreReads(self.reader, offload)
        self.awaited = AwaitedRecorder(self.recording)
        self.recent = RecentRows(self.reads.certificate, monotonic_ns=self.clock.monotonic_ns)
        self.refusals = RefusalCounter()
        metrics = Metrics(stages=STAGES, counters=(), processes=1)
        self.feed = RevocationFeed(self.reads, watching=self.reads, cut_off=self._cut, max_waiters=1)
        self.parts = FrontParts(
            profile=self.authority.profile,
            issuing=self.authority.issuing,
            root=self.authority.root,
            grants={SubSystem(name): parse_capabilities(held) for name, held in GRANTS.items()},
            doorkeeper=Doorkeeper(
                recording=self.awaited,
                certificate=self.reads.certificate,
                recent=self.recent.certificate,
                refusals=self.refusals,
                clock=self.clock,
                limits=self.limits,
            ),
            reads=self.reads,
            recent=self.recent,
            recording=self.awaited,
            enroller=Enroller(
                profile=self.authority.profile,
                recording=self.awaited,
                reads=self.reads,
                clock=self.clock,
                random=self._random,
                metrics=metrics,
            ),
            feed=self.feed,
            prove=self._prove,
            readiness=self._readiness,
            clock=self.clock,
            metrics=metrics,
            engine=self.reader.engine,
            offload=offload,
        )
        self.app = build_app(self.parts)

    async def _readiness(self) -> Readiness:
        checks = {"store": True, "recorder": not self.recording.is_away}
        return Readiness(checks=checks, roles_separated=False)

    def _cut(self, serials: Any) -> int:
        self.cut += serials
        return len(self.cut)

    async def _prove(self, address: str | None, host: str, expected_der: bytes) -> None:
        self.proofs.append((address, host, expected_der))
        if self.prove_error is not None:
            raise self.prove_error

    def _random(self, length: int) -> bytes:
        self.counter += 1
        return sha512(self.counter.to_bytes(8, "big")).digest()[:length]

    # --- what an operator and clients do ---

    def token(self, subsystem: str = "node-controller", agent: str = CONTROLLER, **changes: Any) -> Token:
        """Mint a token, active at once and with all that its sub-system may hold; `changes` are members of
        MintToken.
        """
        self.counter += 1
        token = mint(sha512(self.counter.to_bytes(8, "big")).digest()[:RANDOM_BYTES])
        values: dict[str, Any] = {
            "operator": OPERATOR,
            "token_id": token.id,
            "token_digest": token.digest,
            "subsystem": subsystem,
            "node": NODE,
            "agent": parse_agent_id(agent),
            "capabilities": GRANTS.get(subsystem, ()),
            "endpoints": (),
            "lifetime_s": 7200,
            "expires_at": int(self.clock.at.timestamp()) + 600,
            "address": "",
            "spki_digest": b"",
            "bootstrap": False,
            "again": False,
        } | changes
        self.recording.submit(MintToken(**values))
        return token

    def enroll(self, token: Token, key: ec.EllipticCurvePrivateKey, **kwargs: Any) -> falcon.testing.Result:
        return self.post_csr("simpleenroll", csr_of(key), headers={"Authorization": basic(token)}, **kwargs)

    def post_csr(
        self, operation: str, csr: bytes, *, headers: Mapping[str, str] | None = None, **kwargs: Any
    ) -> falcon.testing.Result:
        return self.ask(
            "POST",
            f"/.well-known/est/{operation}",
            body=base64.encodebytes(csr),
            headers={"Content-Type": "application/pkcs10"} | dict(headers or {}),
            **kwargs,
        )

    def holder(self, subsystem: str = "node-controller", agent: str = CONTROLLER, **changes: Any) -> Holder:
        """Enroll by a fresh token."""
        key = new_key()
        result = self.enroll(self.token(subsystem, agent, **changes), key)
        assert result.status_code == 200, result.text
        return Holder(key=key, certificate=certificate_in(result))

    def ask(
        self,
        method: str,
        path: str,
        *,
        holder: Holder | None = None,
        source: str = "127.0.0.1",
        problem: str | None = None,
        **kwargs: Any,
    ) -> falcon.testing.Result:
        """One request, with a holder's certificate if there is one, which did not verify if it has
        a problem.
        """
        app: Any = seen_by(self.peer_of(holder, source=source, problem=problem), self.app)
        return falcon.testing.TestClient(app).simulate_request(method, path, **kwargs)

    @staticmethod
    def peer_of(holder: Holder | None, *, source: str = "127.0.0.1", problem: str | None = None) -> Peer:
        """The client of a connection, with a holder's certificate if there is one."""
        return peer_from(source, certificate=None if holder is None else holder.der, problem=problem)

    def post(self, path: str, value: object, *, holder: Holder | None = None) -> falcon.testing.Result:
        headers = {"Content-Type": "application/json"}
        return self.ask("POST", path, holder=holder, body=json.dumps(value), headers=headers)

    def counted(self) -> list[Refusals]:
        """The refusals of strangers that were counted since the last call."""
        recorded: list[Refusals] = []

        async def record(item: Refusals) -> None:
            recorded.append(item)

        asyncio.run(self.refusals.flush(record))
        return recorded

    def status(self, serial: str) -> str:
        row = self.reader.certificate(serial)
        return "none" if row is None else row.status


def certificate_in(result: falcon.testing.Result) -> x509.Certificate:
    """The one certificate of a certs-only answer."""
    (certificate,) = pkcs7.load_der_pkcs7_certificates(base64.b64decode(result.content))
    return certificate


def moment(epoch_s: int) -> datetime:
    return datetime.fromtimestamp(epoch_s, UTC)
