"""The plain HTTP instance: OCSP goes to the responder and back, lists come from the store, nothing is cached
too long.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import falcon.testing
import pytest
from cryptography import x509
from sqlalchemy import insert, update

from ca.certificates.crl import ReasonCode, build_entry
from ca.status.app import COUNTERS, STAGES, StatusParts, build_app
from ca.status.lists import PIECE_BYTES, Lists
from ca.store.reader import StoreReader
from ca.store.tables import CRLS, METADATA
from ostiary.edge.channel import Answer
from ostiary.edge.frame import Status
from ostiary.edge.metrics import Metrics
from ostiary.errors import Busy
from ostiary.front.limits import Buckets, Limit
from ostiary.front.offload import Offload
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from tests.support.asgi import peer_from, seen_by
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import NOW
from tests.support.still_clock import ClockForTests

AUTHORITY = AuthorityForTests()
TRY_LATER = bytes.fromhex("30030a0103")
MALFORMED = bytes.fromhex("30030a0101")


class Responder:
    """Answers with what it was asked, in brackets."""

    def __init__(self) -> None:
        self.is_away = False

    async def __call__(self, body: bytes) -> Answer:
        if self.is_away:
            raise Busy("away")
        return Answer(request_id=b"x" * 16, status=Status.OK, body=b"<" + body + b">")


@pytest.fixture
def responder() -> Responder:
    return Responder()


@pytest.fixture
def clock() -> ClockForTests:
    return ClockForTests()


@pytest.fixture
def parts(tmp_path: Path, responder: Responder, clock: ClockForTests) -> Iterator[StatusParts]:
    url = sqlite_url(tmp_path / "store.sqlite")
    writing = open_for_writing(url)
    METADATA.create_all(writing)
    with writing.begin() as tx:
        for shard, number in ((1, 1), (2, 5), (-1, 9)):
            der = AUTHORITY.crl([], number=number, shard=None if shard < 0 else shard)
            values = {"signed_number": number, "through": 0, "this_update": 1_790_000_000, "refresh_at": 0}
            tx.execute(insert(CRLS).values(shard=shard, number=number, der=der, **values))
        tx.execute(
            insert(CRLS).values(
                shard=3, number=1, signed_number=0, through=0, this_update=None, refresh_at=0, der=None
            )
        )
    engine = open_for_reading(url)
    reader, offload = StoreReader(engine), Offload(threads=1)

    async def last_revocation() -> int:
        return await offload.run(reader.last_revocation)

    parts = StatusParts(
        lists=Lists(reader, offload, clock, root_crl_der=AUTHORITY.root_crl()),
        ask=responder,
        last_revocation=last_revocation,
        issuing=AUTHORITY.issuing,
        root=AUTHORITY.root,
        root_crl_der=AUTHORITY.root_crl(),
        buckets=Buckets(Limit(rate_per_s=1, burst=20)),
        clock=clock,
        metrics=Metrics(stages=STAGES, counters=COUNTERS, processes=1),
    )
    yield parts
    offload.close()
    writing.dispose()
    engine.dispose()


@pytest.fixture
def app(parts: StatusParts) -> Any:
    return build_app(parts)


@pytest.fixture
def client(app: Any) -> falcon.testing.TestClient:
    return client_at("192.0.2.1", app)


def client_at(address: str, app: Any) -> falcon.testing.TestClient:
    return falcon.testing.TestClient(seen_by(peer_from(address), app))


def test_ocsp_by_post_and_get_reaches_the_responder(client: falcon.testing.TestClient) -> None:
    headers = {"Content-Type": "application/ocsp-request"}
    posted = client.simulate_post("/ocsp", body=b"abc", headers=headers)
    assert (posted.content, posted.headers["content-type"]) == (b"<abc>", "application/ocsp-response")
    assert posted.headers["cache-control"] == "no-store"
    encoded = base64.b64encode(b"0\xff\xbf").decode()
    assert encoded == "MP+/"  # the last character is part of it
    got = client.simulate_get(f"/ocsp/{encoded}")
    assert got.content == b"<0\xff\xbf>"
    assert "max-age=1," in got.headers["cache-control"]


def test_without_a_responder_the_answer_is_try_later(
    client: falcon.testing.TestClient, responder: Responder
) -> None:
    responder.is_away = True
    headers = {"Content-Type": "application/ocsp-request"}
    assert client.simulate_post("/ocsp", body=b"abc", headers=headers).content == TRY_LATER
    assert "max-age" not in client.simulate_get("/ocsp/AAAA").headers["cache-control"]
    assert client.simulate_get("/ocsp/!").content == MALFORMED


def test_lists_come_with_type_and_tag(client: falcon.testing.TestClient) -> None:
    found = client.simulate_get("/crl/2.crl")
    assert found.headers["content-type"] == "application/pkix-crl"
    crl = x509.load_der_x509_crl(found.content)
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 5
    again = client.simulate_get("/crl/2.crl", headers={"If-None-Match": found.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    complete = x509.load_der_x509_crl(client.simulate_get("/crl/complete.crl").content)
    assert x509.IssuingDistributionPoint not in {type(each.value) for each in complete.extensions}


def test_the_bundle_has_every_shard_and_the_roots(client: falcon.testing.TestClient) -> None:
    text = client.simulate_get("/crl/bundle.pem").text
    blocks = text.split("-----END X509 CRL-----\n")[:-1]
    issuers = [
        x509.load_pem_x509_crl((block + "-----END X509 CRL-----\n").encode()).issuer for block in blocks
    ]
    assert issuers == [AUTHORITY.issuing.subject, AUTHORITY.issuing.subject, AUTHORITY.root.subject]


@pytest.mark.parametrize("name", ["3.crl", "99.crl", "-1.crl", "01.crl", "x.crl", "2.crl%00", "..%2f1.crl"])
def test_what_is_not_there_is_not_found(client: falcon.testing.TestClient, name: str) -> None:
    result = client.simulate_get(f"/crl/{name}")
    assert result.status_code == 404
    assert result.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "path", ["/healthz", "/metrics", "/crl/1.crl", "/ca/root.cer", "/ocsp/!", "/nowhere"]
)
def test_a_source_that_asks_too_often_waits_whatever_it_asks_for(
    client: falcon.testing.TestClient, app: Any, path: str
) -> None:
    statuses = [client.simulate_get(path).status_code for _ in range(20)]
    assert 429 not in statuses
    refused = client.simulate_get(path)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    assert client_at("192.0.2.2", app).simulate_get(path).status_code == statuses[0]


def test_what_a_source_asks_wrongly_counts_too(client: falcon.testing.TestClient) -> None:
    wrong = [client.simulate_post("/ocsp", body=b"x").status_code for _ in range(20)]
    assert wrong == [415] * 20
    assert client.simulate_delete("/ocsp").status_code == 429


def test_numbers_are_shown(client: falcon.testing.TestClient) -> None:
    client.simulate_get("/crl/1.crl")
    text = client.simulate_get("/metrics").text
    assert "ostiary_ca_status_crl_requests_total 1" in text
    assert "ostiary_ca_revocations_total 0" in text


def test_numbers_are_made_a_few_times_a_second_however_often_they_are_asked_for(
    client: falcon.testing.TestClient, clock: ClockForTests
) -> None:
    first = client.simulate_get("/metrics").text
    client.simulate_get("/crl/1.crl")
    assert client.simulate_get("/metrics").text == first
    clock.later(seconds=0.25)
    assert "ostiary_ca_status_crl_requests_total 1" in client.simulate_get("/metrics").text


def test_a_long_list_leaves_in_pieces_with_its_length_said(
    tmp_path: Path, client: falcon.testing.TestClient, clock: ClockForTests
) -> None:
    entries = [
        build_entry(serial_number=number + 1, revoked_at=NOW, reason=ReasonCode.superseded)
        for number in range(PIECE_BYTES // 30)
    ]
    der = AUTHORITY.crl(entries, number=6, shard=2)
    assert len(der) > PIECE_BYTES
    client.simulate_get("/crl/2.crl")
    writing = open_for_writing(sqlite_url(tmp_path / "store.sqlite"))
    with writing.begin() as tx:
        tx.execute(update(CRLS).where(CRLS.c.shard == 2).values(der=der, signed_number=6))
    writing.dispose()
    clock.later(seconds=0.25)
    found = client.simulate_get("/crl/2.crl")
    assert (found.content, found.headers["content-length"]) == (der, str(len(der)))
