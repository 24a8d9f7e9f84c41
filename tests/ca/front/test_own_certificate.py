"""The front's own certificate: the CA's name on its node, no capability, replaced in time, kept while that
fails.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from ca.front import own_certificate
from ca.front.own_certificate import Authority, OwnCertificate
from ca.items import FrontCertificate
from ostiary.certificate import serial_hex
from ostiary.errors import Busy, InternalFault
from ostiary.names import parse_node
from tests.support.ca_front import FrontForTests
from tests.support.waiting import RUNS_OUT_S, until_on_loop


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


@pytest.fixture
def stapled() -> list[str]:
    """The serial numbers of the certificates that a staple was asked for."""
    return []


@pytest.fixture
def own(front: FrontForTests, stapled: list[str]) -> OwnCertificate:
    authority = Authority(
        profile=front.authority.profile,
        issuing=front.authority.issuing,
        root=front.authority.root,
        node=parse_node("ca.nodes.shop.example"),
    )

    async def staple(leaf: x509.Certificate) -> Callable[[], bytes]:
        stapled.append(serial_hex(leaf.serial_number))
        return lambda: b""

    return OwnCertificate(
        authority,
        recording=front.awaited,
        reads=front.reads,
        staple=staple,
        clock=front.clock,
        random=os.urandom,
    )


def items(front: FrontForTests) -> list[FrontCertificate]:
    return [item for _, item in front.recording.items if isinstance(item, FrontCertificate)]


def test_it_is_recorded_like_everybodys(
    front: FrontForTests, own: OwnCertificate, stapled: list[str]
) -> None:
    with pytest.raises(InternalFault):
        own.tls()
    asyncio.run(own.obtain_first())
    (item,) = items(front)
    assert item.certificate.subsystem == "certificate-authority"
    assert item.certificate.node == "ca.nodes.shop.example"
    assert item.certificate.capabilities == ()
    assert front.status(item.certificate.serial) == "active"
    assert stapled == [item.certificate.serial]


def test_what_has_ended_is_not_valid(front: FrontForTests, own: OwnCertificate) -> None:
    valid = [own.is_valid]
    asyncio.run(own.obtain_first())
    valid.append(own.is_valid)
    front.clock.later(hours=24)
    assert [*valid, own.is_valid] == [False, True, False]


def test_it_is_replaced_after_two_thirds_and_the_old_one_serves_while_that_fails(
    front: FrontForTests, own: OwnCertificate, stapled: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_certificate, "CHECK_S", 0.005)

    async def story() -> None:
        await own.obtain_first()
        first = own.tls()
        front.clock.later(hours=1, minutes=21)
        front.recording.is_away = True
        renewing = asyncio.create_task(own.run())
        await asyncio.sleep(RUNS_OUT_S)
        assert own.tls() is first
        front.recording.is_away = False
        await until_on_loop(lambda: own.tls() is not first)
        renewing.cancel()

    asyncio.run(story())
    agents = {item.certificate.agent for item in items(front)}
    assert (len(items(front)), len(agents)) == (2, 1)
    assert stapled == [item.certificate.serial for item in items(front)]


def test_without_a_recorder_it_does_not_start(
    front: FrontForTests, own: OwnCertificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(own_certificate, "START_S", 0.05)
    monkeypatch.setattr(own_certificate, "RETRY_S", 0.01)
    front.recording.is_away = True
    with pytest.raises(Busy):
        asyncio.run(own.obtain_first())
