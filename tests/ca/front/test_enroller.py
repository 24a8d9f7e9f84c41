"""Enrolling: prepared, recorded and signed in this order, and prepared once more only where that can help."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography import x509

from ca.certificates.accept import AcceptedCSR, CSRBytes, accept
from ca.front.enroller import STAGES, Enroller
from ca.front.enrollment import Wanted
from ca.items import Prepared, Renew
from ostiary.edge.metrics import Metrics
from ostiary.errors import Busy, Forbidden
from ostiary.identity import Identity
from ostiary.work.answer import Recorded
from ostiary.work.item import Item
from tests.support.ca_authority import AuthorityForTests
from tests.support.ca_front import FrontForTests, csr_of, new_key
from tests.support.certificates import IDENTITY

CSR: AcceptedCSR = accept(CSRBytes(csr_of(new_key())))


class Refusing:
    """A recorder that refuses the first items with the given errors, then has the rest signed."""

    def __init__(self, authority: AuthorityForTests, *errors: Exception) -> None:
        self._authority = authority
        self._errors = list(errors)
        self.prepared: list[Prepared] = []

    async def submit(self, item: Item) -> Recorded:
        assert isinstance(item, Renew)
        self.prepared.append(item.certificate)
        if self._errors:
            raise self._errors.pop(0)
        signature = self._authority.sign(item.certificate.tbs).signature
        return Recorded(index=0, output=signature, substitute=b"")


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


def enroll(front: FrontForTests, recording: Refusing, identity: Identity = IDENTITY) -> x509.Certificate:
    made = Enroller(
        profile=front.authority.profile,
        recording=recording,
        reads=front.reads,
        clock=front.clock,
        random=front._random,
        metrics=Metrics(stages=STAGES, counters=(), processes=1),
    )
    wanted = Wanted(identity=identity, lifetime=front.authority.profile.lifetime, pending=False)

    def item_of(prepared: Prepared) -> Item:
        return Renew(serial="1f", certificate=prepared)

    return x509.load_der_x509_certificate(asyncio.run(made.enroll(wanted, CSR, item_of)))


def test_what_was_recorded_comes_back_signed(front: FrontForTests) -> None:
    recording = Refusing(front.authority)
    certificate = enroll(front, recording)
    certificate.verify_directly_issued_by(front.authority.issuing)
    assert certificate.tbs_certificate_bytes == recording.prepared[0].tbs


@pytest.mark.parametrize("rule", ["certificate-shard", "certificate-serial-taken"])
def test_a_race_is_prepared_once_more_with_another_serial_number(front: FrontForTests, rule: str) -> None:
    recording = Refusing(front.authority, Forbidden("taken", rule=rule))
    certificate = enroll(front, recording)
    first, second = recording.prepared
    assert first.serial != second.serial
    assert certificate.tbs_certificate_bytes == second.tbs


def test_a_second_refusal_is_final(front: FrontForTests) -> None:
    again = Forbidden("full", rule="certificate-shard")
    recording = Refusing(front.authority, again, again)
    with pytest.raises(Forbidden):
        enroll(front, recording)
    assert len(recording.prepared) == 2


@pytest.mark.parametrize(
    "error", [Forbidden("no", rule="lineage-stopped"), Busy("away")], ids=["forbidden", "busy"]
)
def test_any_other_refusal_is_final_at_once(front: FrontForTests, error: Exception) -> None:
    recording = Refusing(front.authority, error)
    with pytest.raises(type(error)):
        enroll(front, recording)
    assert len(recording.prepared) == 1
