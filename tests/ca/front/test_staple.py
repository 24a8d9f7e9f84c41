"""What is stapled to the front's certificate: its own status, as the responder signs it, while it lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import ocsp

from ca.certificates.crl import ReasonCode
from ca.certificates.ocsp import CertStatus, ErrorStatus, Good, Revoked, error_response
from ca.front import staple
from ca.front.staple import Staple, Stapler
from ca.responder.answers import VALIDITY, Answers, ResponderKey
from ostiary.certificate import serial_hex
from ostiary.errors import Busy
from tests.support.ca_authority import SERIAL, AuthorityForTests
from tests.support.still_clock import ClockForTests
from tests.support.waiting import until_on_loop

AUTHORITY = AuthorityForTests()
LEAF, OTHER = AUTHORITY.leaf(), AUTHORITY.leaf(AUTHORITY.plan(serial_number=SERIAL + 1))


@dataclass
class Responder:
    """The CA's own answers, over no channel; `errors` come first."""

    clock: ClockForTests = field(default_factory=ClockForTests)
    statuses_by_serial: dict[str, CertStatus] = field(default_factory=dict)
    errors: list[Busy | bytes] = field(default_factory=list)
    asked: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        for leaf in (LEAF, OTHER):
            self.statuses_by_serial[serial_hex(leaf.serial_number)] = Good()
        key = ec.generate_private_key(ec.SECP256R1())
        signer = ResponderKey(key=key, certificate=AUTHORITY.responder(key.public_key()))
        self.answers = Answers(AUTHORITY.issuing, self, self.clock, signer)

    def statuses(self, serials: Sequence[str]) -> Mapping[str, CertStatus]:
        return {each: self.statuses_by_serial[each] for each in serials if each in self.statuses_by_serial}

    def last_revocation(self) -> int:
        return 0

    async def ask(self, request_der: bytes) -> bytes:
        self.asked.append(request_der)
        await asyncio.sleep(0)
        if not self.errors:
            return self.answers.answer([request_der])[0]
        error = self.errors.pop(0)
        if isinstance(error, Busy):
            raise error
        return error

    def stapler(self) -> Stapler:
        return Stapler(self.ask, issuing=AUTHORITY.issuing, clock=self.clock)


@pytest.fixture
def responder() -> Responder:
    return Responder()


def begin(responder: Responder, leaf: x509.Certificate = LEAF) -> Callable[[], bytes]:
    return asyncio.run(responder.stapler().begin(leaf))


def test_it_is_the_responders_answer_about_this_certificate(responder: Responder) -> None:
    response = ocsp.load_der_ocsp_response(begin(responder)())
    assert response.certificate_status is ocsp.OCSPCertStatus.GOOD
    assert response.serial_number == LEAF.serial_number


def test_a_revocation_is_stapled_too(responder: Responder) -> None:
    revoked = Revoked(revoked_at=responder.clock.at, reason=ReasonCode.keyCompromise)
    responder.statuses_by_serial[serial_hex(LEAF.serial_number)] = revoked
    response = ocsp.load_der_ocsp_response(begin(responder)())
    assert response.certificate_status is ocsp.OCSPCertStatus.REVOKED


@pytest.mark.parametrize("seconds", [-1, VALIDITY.total_seconds()])
def test_outside_its_time_it_is_not_stapled(responder: Responder, seconds: float) -> None:
    current = begin(responder)
    assert current()
    responder.clock.later(seconds=seconds)
    assert current() == b""


@pytest.mark.parametrize(
    "answer",
    [Busy("away"), b"", b"\x30\x03\x0a\x01", error_response(ErrorStatus.tryLater)],
    ids=["busy", "empty", "broken", "try later"],
)
def test_without_a_status_nothing_is_stapled(responder: Responder, answer: Busy | bytes) -> None:
    responder.errors.append(answer)
    assert begin(responder)() == b""


def test_an_unknown_certificate_is_not_called_unknown(responder: Responder) -> None:
    """It may have been recorded after the responder's last look."""
    del responder.statuses_by_serial[serial_hex(LEAF.serial_number)]
    assert begin(responder)() == b""


def test_another_certificates_status_is_not_stapled(responder: Responder) -> None:
    (about_other,) = responder.answers.answer([Staple(OTHER, AUTHORITY.issuing).request])
    responder.errors.append(about_other)
    assert begin(responder)() == b""


def test_it_is_asked_for_again_and_kept_while_that_fails(
    responder: Responder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(staple, "REFRESH_S", 0.001)
    stapler = responder.stapler()

    async def story() -> None:
        current = await stapler.begin(LEAF)
        first = current()
        responder.errors += [Busy("away")] * 3
        refreshing = asyncio.create_task(stapler.run())
        await until_on_loop(lambda: not responder.errors)
        assert current() == first
        responder.clock.later(minutes=9)
        await until_on_loop(lambda: current() != first)
        assert ocsp.load_der_ocsp_response(current()).serial_number == LEAF.serial_number
        refreshing.cancel()

    asyncio.run(story())
    assert set(responder.asked) == {Staple(LEAF, AUTHORITY.issuing).request}


def test_each_certificate_keeps_its_own(responder: Responder) -> None:
    stapler = responder.stapler()

    async def story() -> list[int]:
        staples = [await stapler.begin(leaf) for leaf in (LEAF, OTHER)]
        return [ocsp.load_der_ocsp_response(current()).serial_number for current in staples]

    assert asyncio.run(story()) == [LEAF.serial_number, OTHER.serial_number]
