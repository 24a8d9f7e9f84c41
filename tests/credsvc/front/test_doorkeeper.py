"""Who is let in: each reason not to be, and what is recorded or counted of it."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field, replace

import falcon
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from credsvc.front.doorkeeper import Caller, Doorkeeper, KnownPeer, Refuser
from ostiary.errors import Busy, Forbidden, Unauthenticated
from ostiary.front.limits import Limit
from ostiary.front.peer import acting_for
from ostiary.front.refusals import RefusalCounter
from ostiary.identity import Identity
from ostiary.names import parse_application
from ostiary.peer import PeerCertificate, peer_item, read_peer
from ostiary.work.reports import Refusals, Refuse
from tests.support.asgi import peer_from
from tests.support.credentials_front import FixedClock, MemoryRecorder
from tests.support.identities import Authority

AUTHORITY = Authority()


@dataclass
class MemoryRevocations:
    age: int | None = 3
    revoked: set[int] = field(default_factory=set)

    def is_revoked(self, serial_number: int) -> bool:
        return serial_number in self.revoked

    def age_s(self) -> int | None:
        return self.age


@dataclass
class Door:
    """A doorkeeper with its ports in hand; `certificate` is what the connection showed."""

    certificate: PeerCertificate | None
    revocations: MemoryRevocations = field(default_factory=MemoryRevocations)
    recorder: MemoryRecorder = field(default_factory=MemoryRecorder)
    refusals: RefusalCounter = field(default_factory=RefusalCounter)

    def knock(self) -> object:
        doorkeeper = Doorkeeper(
            application=parse_application("shop.example"),
            revocations=self.revocations,
            refuser=Refuser(self.recorder, FixedClock()),
            refusals=self.refusals,
            clock=FixedClock(),
            read=lambda: None if self.certificate is None else KnownPeer(self.certificate),
        )
        return knock(doorkeeper).agent


def knock(doorkeeper: Doorkeeper) -> Caller:
    with acting_for(peer_from("192.0.2.1")):
        return asyncio.run(doorkeeper.identify(act="use", target="aws/sign"))


def shown(
    authority: Authority = AUTHORITY, *, capabilities: tuple[str, ...] = ("credential:use",)
) -> PeerCertificate:
    agent = authority.agent("component", capabilities=capabilities)
    return read_peer(agent.certificate.public_bytes(Encoding.DER))


def identity_in(certificate: PeerCertificate) -> Identity:
    assert certificate.identity is not None
    return certificate.identity


def test_policy_sees_what_the_certificate_says() -> None:
    certificate = shown()
    agent = Door(certificate).knock()
    assert vars_of(agent) == {
        "agent": identity_in(certificate).agent,
        "subsystem": "component",
        "node": "n1.nodes.shop.example",
        "capabilities": frozenset({"credential:use"}),
        "active": True,
        "revocation_age_s": 3,
    }


def counted(door: Door) -> list[Refusals]:
    taken: list[Refusals] = []

    async def take(row: Refusals) -> None:
        taken.append(row)

    asyncio.run(door.refusals.flush(take))
    return taken


def vars_of(value: object) -> dict[str, object]:
    return {name: getattr(value, name) for name in value.__slots__}  # type: ignore[attr-defined]


def test_without_capabilities_it_is_not_active() -> None:
    assert not vars_of(Door(shown(capabilities=())).knock())["active"]


def test_nobody_is_counted_by_source() -> None:
    door = Door(None)
    for _ in range(3):
        with pytest.raises(Unauthenticated):
            door.knock()
    assert counted(door) == [Refusals(source="192.0.2.1", reason="identity", count=3)]
    assert not door.recorder.items


def test_another_application_is_nobody() -> None:
    with pytest.raises(Unauthenticated):
        Door(shown(Authority("other.example"))).knock()


@pytest.mark.parametrize("shift", [dt.timedelta(hours=-2), dt.timedelta(hours=1)])
def test_outside_of_its_validity_it_is_nobody(shift: dt.timedelta) -> None:
    not_before = FixedClock().now() + shift
    door = Door(replace(shown(), not_before=not_before, not_after=not_before + dt.timedelta(hours=1)))
    with pytest.raises(Unauthenticated):
        door.knock()
    (item,) = door.recorder.items
    assert isinstance(item, Refuse)
    assert (item.rule, item.act, item.target) == ("certificate-expired", "use", "aws/sign")


def test_before_the_ca_was_heard_nobody_is_served() -> None:
    with pytest.raises(Busy):
        Door(shown(), MemoryRevocations(age=None)).knock()


def test_revoked_is_recorded_with_who_and_what() -> None:
    certificate = shown()
    door = Door(certificate, MemoryRevocations(revoked={certificate.serial_number}))
    with pytest.raises(Forbidden) as refused:
        door.knock()
    assert refused.value.rule == "certificate-revoked"
    (item,) = door.recorder.items
    assert isinstance(item, Refuse)
    by = peer_item(certificate.serial, identity_in(certificate))
    assert (item.by, item.act, item.target) == (by, "use", "aws/sign")


def test_names_that_do_not_map_are_no_identity() -> None:
    agent = AUTHORITY.agent("component", common_name="root")
    nobody = read_peer(agent.certificate.public_bytes(Encoding.DER))
    assert nobody.identity is None
    with pytest.raises(Unauthenticated):
        Door(nobody).knock()


def test_one_certificate_does_not_ask_without_end() -> None:
    known = KnownPeer(shown())
    doorkeeper = Doorkeeper(
        application=parse_application("shop.example"),
        revocations=MemoryRevocations(),
        refuser=Refuser(MemoryRecorder(), FixedClock()),
        refusals=RefusalCounter(),
        clock=FixedClock(),
        limit=Limit(rate_per_s=1, burst=2),
        read=lambda: known,
    )
    for _ in range(2):
        knock(doorkeeper)
    with pytest.raises(falcon.HTTPTooManyRequests):
        knock(doorkeeper)
