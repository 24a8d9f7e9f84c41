"""The EST client against an authority over real TLS on loopback: what it sends, and what it refuses."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from certmgr.bootstrap import Bootstrap, parse_bootstrap
from certmgr.est_client import ESTClient, SpawnRequest, parse_certificates
from certmgr.issued import Wanted
from certmgr.keys import KeyPair, Names, generate
from certmgr.record import Generation
from ostiary.edge.clock import SystemClock
from ostiary.errors import Busy, Forbidden, InternalFault, Unauthenticated
from ostiary.front.http import DEFAULT_BODY_BYTES
from ostiary.identity import parse_agent_id, parse_subsystem
from tests.support.fake_ca import FakeCA, agent_id
from tests.support.manager_records import token
from tests.support.waiting import PATIENCE_S


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeCA]:
    fake = FakeCA()
    fake.start()
    yield fake
    fake.stop()


@pytest.fixture
def bootstrap(fake: FakeCA) -> Bootstrap:
    return parse_bootstrap(json.dumps(fake.bootstrap()).encode())


def client_of(bootstrap: Bootstrap, **changes: object) -> ESTClient:
    given = {
        "address": bootstrap.ca,
        "application": bootstrap.application,
        "root": bootstrap.root,
        "root_pem": bootstrap.root_pem,
        "clock": SystemClock(),
        "timeout_s": PATIENCE_S,
    }
    return ESTClient(**given | changes)  # type: ignore[arg-type] # one argument at a time


def manager_of(bootstrap: Bootstrap) -> tuple[Names, KeyPair, Wanted]:
    names = Names(
        application=bootstrap.application,
        subsystem=bootstrap.manager.subsystem,
        node=bootstrap.node,
        agent=bootstrap.manager.agent,
    )
    keys = generate(names)
    return names, keys, Wanted(names=names, spki_der=keys.spki_der)


def test_a_whole_life_over_the_wire(fake: FakeCA, bootstrap: Bootstrap) -> None:
    client = client_of(bootstrap)
    names, keys, wanted = manager_of(bootstrap)
    first = client.redeem(bootstrap.manager.token, keys.csr_der, wanted)
    assert len(first.chain) == 2
    assert client.redeem(bootstrap.manager.token, keys.csr_der, wanted) == first
    identity = Generation(number=1, keys=keys, issued=first).identity_pem
    assert client.status(identity) == "pending"
    with pytest.raises(Forbidden, match="dial-back"):
        client.prove(identity, first.serial)
    fake.rows[first.serial].status = "active"
    heir = generate(names)
    second = client.renew(identity, heir.csr_der, Wanted(names=names, spki_der=heir.spki_der))
    manager = Generation(number=2, keys=heir, issued=second).identity_pem
    assert client.status(manager) == "active"
    assert fake.rows[first.serial].status == "superseded"
    child = Names(
        application=names.application,
        subsystem=parse_subsystem("component-harness"),
        node=names.node,
        agent=parse_agent_id(agent_id()),
    )
    child_keys = generate(child)
    asked = Wanted(names=child, spki_der=child_keys.spki_der, endpoints=(), capabilities=frozenset())
    request = SpawnRequest(wanted=asked, csr_der=child_keys.csr_der, spawner_serial=second.serial)
    spawned = client.spawn(manager, request)
    assert client.spawn(manager, request) == spawned
    following, revoked = client.revocations(manager, 0, wait_s=0)
    client.retire(manager, spawned.serial)
    assert client.revocations(manager, following, wait_s=0)[1] == [spawned.serial]
    assert revoked == []
    assert client.ledger(manager, "checkpoint") == fake.checkpoint()
    client.close()


def test_an_unknown_token_is_refused(bootstrap: Bootstrap) -> None:
    _, keys, wanted = manager_of(bootstrap)
    with pytest.raises(Unauthenticated):
        client_of(bootstrap).redeem(token(5), keys.csr_der, wanted)


def test_a_server_of_another_root_gets_nothing(fake: FakeCA, bootstrap: Bootstrap) -> None:
    other = FakeCA()
    other.start()
    try:
        _, keys, wanted = manager_of(bootstrap)
        address = parse_bootstrap(json.dumps(other.bootstrap()).encode()).ca
        with pytest.raises(Forbidden) as caught:
            client_of(bootstrap, address=address).redeem(bootstrap.manager.token, keys.csr_der, wanted)
        assert caught.value.rule == "server-certificate"
        assert other.requests == []
    finally:
        other.stop()


def test_a_server_of_another_sub_system_is_refused(fake: FakeCA, bootstrap: Bootstrap) -> None:
    impostor = FakeCA(authority=fake.authority)
    impostor.start(subsystem="credentials-service")
    try:
        _, keys, wanted = manager_of(bootstrap)
        address = parse_bootstrap(json.dumps(impostor.bootstrap()).encode()).ca
        with pytest.raises(Forbidden, match="expected 'certificate-authority'") as caught:
            client_of(bootstrap, address=address).redeem(bootstrap.manager.token, keys.csr_der, wanted)
        assert caught.value.rule == "server-certificate"
        assert impostor.requests == []
    finally:
        impostor.stop()


def test_an_absent_manager_is_busy(bootstrap: Bootstrap) -> None:
    _, keys, wanted = manager_of(bootstrap)
    nobody = type(bootstrap.ca)(host="127.0.0.1", port=1)
    with pytest.raises(Busy):
        client_of(bootstrap, address=nobody).redeem(bootstrap.manager.token, keys.csr_der, wanted)


def test_a_wrong_clock_is_named_as_the_cause(bootstrap: Bootstrap) -> None:
    class Wrong(SystemClock):
        def now(self) -> datetime:
            return datetime(2050, 1, 1, tzinfo=UTC)

    _, keys, wanted = manager_of(bootstrap)
    with pytest.raises(Forbidden, match="is the clock right") as caught:
        client_of(bootstrap, clock=Wrong()).redeem(bootstrap.manager.token, keys.csr_der, wanted)
    assert caught.value.rule == "validity"


@pytest.mark.parametrize("body", [b"", b"hello", base64.b64encode(b"hello"), b"\xff" * DEFAULT_BODY_BYTES])
def test_a_body_that_is_not_pkcs7_is_the_authoritys_fault(body: bytes) -> None:
    with pytest.raises(InternalFault):
        parse_certificates(body)
