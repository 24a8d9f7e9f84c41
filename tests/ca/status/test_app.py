"""The plain HTTP instance: OCSP goes to the responder and back, lists come from the store, nothing is cached
too long.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path

import falcon.testing
import pytest
from cryptography import x509
from sqlalchemy import insert

from ca.status.app import COUNTERS, STAGES, StatusParts, build_app
from ca.store.reader import StoreReader
from ca.store.tables import CRLS, METADATA
from ostiary.edge.channel import Answer
from ostiary.edge.frame import Status
from ostiary.edge.metrics import Metrics
from ostiary.errors import Busy
from ostiary.front.limits import Buckets, Limit
from ostiary.store.database import open_for_reading, open_for_writing, sqlite_url
from tests.support.ca_authority import AuthorityForTests
from tests.support.ca_front import ClockForTests

AUTHORITY = AuthorityForTests()
TRY_LATER = bytes.fromhex("30030a0103")
MALFORMED = bytes.fromhex("30030a0101")


class Responder:
    """Answers with what it was asked, in brackets."""

    def __init__(self) -> None:
        self.is_away = False

    def __call__(self, body: bytes) -> Answer:
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
def client(tmp_path: Path, responder: Responder, clock: ClockForTests) -> Iterator[falcon.testing.TestClient]:
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
    parts = StatusParts(
        reader=StoreReader(open_for_reading(url)),
        ask=responder,
        issuing=AUTHORITY.issuing,
        root=AUTHORITY.root,
        root_crl_der=AUTHORITY.root_crl(),
        buckets=Buckets(Limit(rate_per_s=1, burst=20)),
        clock=clock,
        metrics=Metrics(stages=STAGES, counters=COUNTERS, processes=1),
    )
    yield falcon.testing.TestClient(build_app(parts))
    writing.dispose()
    parts.reader.engine.dispose()


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


def test_the_bundle_is_made_a_few_times_a_second_however_often_it_is_asked_for(
    client: falcon.testing.TestClient, clock: ClockForTests, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def counted(reader: StoreReader) -> list[bytes]:
        made.append(1)
        return []

    monkeypatch.setattr(StoreReader, "shard_crls", counted)
    for _ in range(5):
        client.simulate_get("/crl/bundle.pem")
    assert len(made) == 1
    clock.later(seconds=0.25)
    client.simulate_get("/crl/bundle.pem")
    assert len(made) == 2


@pytest.mark.parametrize("name", ["3.crl", "99.crl", "-1.crl", "01.crl", "x.crl", "2.crl%00", "..%2f1.crl"])
def test_what_is_not_there_is_not_found(client: falcon.testing.TestClient, name: str) -> None:
    result = client.simulate_get(f"/crl/{name}")
    assert result.status_code == 404
    assert result.headers["content-type"] == "application/problem+json"


def test_a_source_that_asks_too_often_waits(client: falcon.testing.TestClient) -> None:
    statuses = [client.simulate_get("/healthz").status_code for _ in range(21)]
    assert statuses == [200] * 20 + [429]


def test_numbers_are_shown(client: falcon.testing.TestClient) -> None:
    client.simulate_get("/crl/1.crl")
    text = client.simulate_get("/metrics").text
    assert "ostiary_ca_status_crl_requests_total 1" in text
    assert "ostiary_ca_revocations_total 0" in text
