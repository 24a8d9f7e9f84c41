"""The responder's round: answers while the store can be read, and a certificate that is replaced in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ca.certificates.ocsp import CertStatus, Good
from ca.items import ResponderCertificate
from ca.keyholder.evaluator import CAEvaluator
from ca.responder.answers import Answers
from ca.responder.loop import RETRY_S, Certifier, ResponderLoop
from ostiary.certificate import serial_hex
from ostiary.edge.frame import Status
from ostiary.edge.hub import Hub, Request
from ostiary.errors import Busy
from ostiary.work.answer import Recorded
from ostiary.work.item import Item
from tests.support.ca_authority import AuthorityForTests
from tests.support.still_clock import ClockForTests

AUTHORITY = AuthorityForTests()
LEAF = AUTHORITY.leaf()
REQUEST = (
    ocsp.OCSPRequestBuilder()
    .add_certificate(LEAF, AUTHORITY.issuing, hashes.SHA256())
    .build()
    .public_bytes(Encoding.DER)
)


@dataclass
class SigningRecorder:
    """Has every responder's certificate recorded and signed by the CA's own evaluator, unless it is away."""

    clock: ClockForTests
    items: list[ResponderCertificate] = field(default_factory=list)
    is_away: bool = False
    evaluator: CAEvaluator = field(default_factory=lambda: CAEvaluator(AUTHORITY.keys()))

    def submit(self, item: Item) -> Recorded:
        if self.is_away:
            raise Busy("the recorder is busy or its keyholder is away")
        assert isinstance(item, ResponderCertificate)
        self.items.append(item)
        signature = self.evaluator.evaluate(item, b"", now=self.clock.now())
        return Recorded(index=0, output=signature, substitute=b"")


@dataclass
class StoreForTests:
    """One good certificate; each look and read fails while it is away."""

    is_away: bool = False

    def statuses(self, serials: Sequence[str]) -> Mapping[str, CertStatus]:
        self.last_revocation()
        return {serial: Good() for serial in serials if serial == serial_hex(LEAF.serial_number)}

    def last_revocation(self) -> int:
        if self.is_away:
            raise Busy("the store can't be read now")
        return 0


class RequestForTests(Request):
    """A request over no channel; `replies` has what was answered."""

    replies: list[tuple[Status, bytes]] = []  # noqa: RUF012 - emptied by each test

    def reply(self, status: Status, body: bytes) -> bool:
        self.replies.append((status, body))
        return True


@dataclass
class HubForTests:
    """Hands out the given requests, one round each."""

    waiting: list[bytes] = field(default_factory=list)

    def poll(self, _timeout_s: float) -> list[Request]:
        taken, self.waiting = self.waiting, []
        nobody: Any = None
        return [
            RequestForTests(
                channel="ocsp", peer=nobody, request_id=b"x" * 16, deadline_ns=0, body=body, _inbound=nobody
            )
            for body in taken
        ]


@dataclass
class Responder:
    """A loop with everything around it."""

    clock: ClockForTests = field(default_factory=ClockForTests)
    store: StoreForTests = field(default_factory=StoreForTests)
    hub: HubForTests = field(default_factory=HubForTests)

    def __post_init__(self) -> None:
        RequestForTests.replies.clear()
        self.recorder = SigningRecorder(self.clock)
        self.counter = 0
        self.certifier = Certifier(
            profile=AUTHORITY.profile, recording=self.recorder, clock=self.clock, random=self._random
        )
        first = self.certifier.obtain()
        answers = Answers(AUTHORITY.issuing, self.store, self.clock, first)
        self.loop = ResponderLoop(
            hub=cast("Hub", self.hub),
            answers=answers,
            certifier=self.certifier,
            clock=self.clock,
            first=first,
        )

    def _random(self, length: int) -> bytes:
        self.counter += 1
        return bytes([self.counter]) * length

    def ask(self) -> ocsp.OCSPResponse:
        self.hub.waiting.append(REQUEST)
        self.loop.turn()
        status, body = RequestForTests.replies[-1]
        assert status is Status.OK
        return ocsp.load_der_ocsp_response(body)

    def signer(self) -> x509.Certificate:
        return self.ask().certificates[0]


@pytest.fixture
def responder() -> Responder:
    return Responder()


def test_a_key_is_certified_by_what_was_recorded(responder: Responder) -> None:
    (item,) = responder.recorder.items
    signer = responder.signer()
    assert (serial_hex(signer.serial_number), signer.tbs_certificate_bytes) == (item.serial, item.tbs)
    signer.verify_directly_issued_by(AUTHORITY.issuing)


def test_a_request_is_answered(responder: Responder) -> None:
    assert responder.ask().certificate_status is ocsp.OCSPCertStatus.GOOD


def test_while_the_store_can_not_be_read_nothing_is_called_good(responder: Responder) -> None:
    """Not even an answer that is kept: the certificate may have been revoked since."""
    assert responder.ask().certificate_status is ocsp.OCSPCertStatus.GOOD
    responder.store.is_away = True
    responder.clock.later(seconds=1)
    assert responder.ask().response_status is ocsp.OCSPResponseStatus.TRY_LATER
    responder.store.is_away = False
    assert responder.ask().certificate_status is ocsp.OCSPCertStatus.GOOD


def test_the_certificate_is_replaced_after_two_thirds_of_its_life(responder: Responder) -> None:
    first = responder.signer()
    life = first.not_valid_after_utc - first.not_valid_before_utc
    responder.clock.at = first.not_valid_before_utc + life * 2 / 3 - timedelta(seconds=1)
    assert responder.signer() == first
    responder.clock.later(seconds=1)
    responder.loop.turn()
    second = responder.signer()
    assert second.public_key() != first.public_key()
    assert second.not_valid_after_utc > first.not_valid_after_utc


def test_while_replacing_fails_the_old_one_serves_and_attempts_are_rare(responder: Responder) -> None:
    first = responder.signer()
    responder.recorder.is_away = True
    responder.clock.at = first.not_valid_after_utc - timedelta(hours=1)
    responder.loop.turn()
    assert responder.signer() == first
    responder.recorder.is_away = False
    responder.clock.later(seconds=RETRY_S - 1)
    responder.loop.turn()
    assert len(responder.recorder.items) == 1
    responder.clock.later(seconds=1)
    responder.loop.turn()
    assert len(responder.recorder.items) == 2
    assert responder.signer() != first
