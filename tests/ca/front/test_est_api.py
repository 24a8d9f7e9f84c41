"""EST: a token buys one certificate, a certificate buys the next; everything else is refused by name and
recorded or counted.
"""

from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import pkcs7

from ca.front.doorkeeper import LIMITS
from ostiary.front.limits import Limit
from ostiary.identity import identity_of
from ostiary.token import RANDOM_BYTES, Token, mint
from ostiary.work.reports import Refusals
from tests.support.ca_front import FrontForTests, Holder, basic, certificate_in, csr_of, new_key


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


def test_a_token_buys_a_certificate_with_its_capabilities(front: FrontForTests) -> None:
    key = new_key()
    result = front.enroll(front.token(), key)
    assert result.status_code == 200
    assert result.headers["content-type"].startswith("application/pkcs7-mime")
    certificate = certificate_in(result)
    identity = identity_of(certificate)
    assert identity.subsystem == "node-controller"
    assert identity.capabilities == {"ledger:read", "spawn:component-harness"}
    assert certificate.public_key() == key.public_key()
    certificate.verify_directly_issued_by(front.authority.issuing)
    assert front.recording.kinds()[-1] == ("authorized", "Redeem")


def test_a_bootstrap_token_buys_a_pending_one_without_capabilities(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True)
    assert identity_of(holder.certificate).capabilities == frozenset()
    assert front.status(holder.serial) == "pending"


def test_a_lost_answer_is_given_again_and_another_key_is_refused(front: FrontForTests) -> None:
    token, key = front.token(), new_key()
    first = certificate_in(front.enroll(token, key))
    assert certificate_in(front.enroll(token, key)) == first
    refused = front.enroll(token, new_key())
    assert refused.status_code == 403
    assert refused.json["rule"] == "token-spent"


def test_what_is_wrong_with_the_authorization_is_said_and_counted(front: FrontForTests) -> None:
    token = front.token()
    other = front.token(agent="44444444-4444-4444-8444-444444444444")
    mixed = base64.b64encode(f"{token.id}:{other.reveal()}".encode()).decode()
    for header in (None, "Basic !!", "Bearer x", f"Basic {mixed}", basic(token)[:-4]):
        headers = {} if header is None else {"Authorization": header}
        result = front.post_csr("simpleenroll", csr_of(new_key()), headers=headers)
        assert result.status_code == 401
        assert result.headers["content-type"] == "application/problem+json"
        assert result.json["field"] == "authorization"
        assert token.reveal() not in result.text
    assert front.counted() == [Refusals(source="127.0.0.1", reason="authorization", count=5)]


def test_an_unknown_token_and_a_wrong_secret_look_the_same(front: FrontForTests) -> None:
    known = front.token()
    unknown = mint(b"\xee" * RANDOM_BYTES)
    wrong = Token(id=known.id, secret=unknown.secret)
    answers = [front.enroll(token, new_key()) for token in (unknown, wrong)]
    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].json == answers[1].json


@pytest.mark.parametrize(
    ("body", "content_type", "status", "named"),
    [
        (b"\n", "application/pkcs10", 400, "csr"),
        (b"not base64!", "application/pkcs10", 400, "csr"),
        (base64.b64encode(b"0\x03\x02\x01\x05"), "application/pkcs10", 400, "csr"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\n", "application/pkcs10", 400, "csr"),
        (b"A" * 30_000, "application/pkcs10", 413, None),
        (b"{}", "application/json", 415, None),
    ],
)
def test_a_bad_request_changes_nothing(
    front: FrontForTests, body: bytes, content_type: str, status: int, named: str | None
) -> None:
    token = front.token()
    before = len(front.recording.items)
    headers = {"Authorization": basic(token), "Content-Type": content_type}
    result = front.ask("POST", "/.well-known/est/simpleenroll", body=body, headers=headers)
    assert result.status_code == status
    assert result.json["status"] == status
    assert result.json.get("field") == named
    assert len(front.recording.items) == before
    row = front.reader.token(token.id)
    assert row is not None
    assert row.status == "open"


def test_a_request_that_names_another_node_is_refused(front: FrontForTests) -> None:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "n2.nodes.shop.example")])
    csr = csr_of(new_key(), subject)
    result = front.post_csr("simpleenroll", csr, headers={"Authorization": basic(front.token())})
    assert result.status_code == 400
    assert result.json["field"] == "subject.OU"


def test_a_token_that_is_bound_to_another_address_is_refused(front: FrontForTests) -> None:
    result = front.enroll(front.token(address="10.0.0.7"), new_key())
    assert (result.status_code, result.json["rule"]) == (403, "token-other-address")


def test_renewal_makes_a_pending_generation_that_its_first_use_activates(front: FrontForTests) -> None:
    old = front.holder()
    key = new_key()
    front.clock.later(hours=1)
    renewed = Holder(
        key=key, certificate=certificate_in(front.post_csr("simplereenroll", csr_of(key), holder=old))
    )
    assert identity_of(renewed.certificate).capabilities == identity_of(old.certificate).capabilities
    assert (front.status(old.serial), front.status(renewed.serial)) == ("active", "pending")
    assert front.ask("GET", "/v1/whoami", holder=renewed).json["status"] == "active"
    assert (front.status(old.serial), front.status(renewed.serial)) == ("superseded", "active")
    assert front.recording.kinds()[-1] == ("authorized", "Activate")


def test_an_older_generation_that_renews_is_a_clone(front: FrontForTests) -> None:
    old = front.holder()
    key = new_key()
    front.clock.later(hours=1)
    renewed = Holder(
        key=key, certificate=certificate_in(front.post_csr("simplereenroll", csr_of(key), holder=old))
    )
    front.ask("GET", "/v1/whoami", holder=renewed)
    result = front.post_csr("simplereenroll", csr_of(new_key()), holder=old)
    assert (result.status_code, result.json["rule"]) == (403, "lineage-clone")
    assert ("authorized", "Alarm") in front.recording.kinds()
    stopped = front.post_csr("simplereenroll", csr_of(new_key()), holder=renewed)
    assert stopped.json["rule"] == "lineage-stopped"


def test_an_early_renewal_is_told_when_to_come_again(front: FrontForTests) -> None:
    early = front.post_csr("simplereenroll", csr_of(new_key()), holder=front.holder())
    assert (early.status_code, early.json["rule"]) == (403, "renewal-early")
    assert "can be renewed in 3570 s" in early.json["detail"]
    assert front.recording.kinds()[-1] == ("denied", "Renew")


def test_renewal_wants_a_certificate_that_stands(front: FrontForTests) -> None:
    assert front.post_csr("simplereenroll", csr_of(new_key())).status_code == 401
    pending = front.holder(bootstrap=True)
    result = front.post_csr("simplereenroll", csr_of(new_key()), holder=pending)
    assert (result.status_code, result.json["rule"]) == (403, "certificate-bootstrap")
    assert front.recording.refusals() == [("renew", "certificate-bootstrap")]


def test_cacerts_are_issuing_and_root(front: FrontForTests) -> None:
    result = front.ask("GET", "/.well-known/est/cacerts")
    found = pkcs7.load_der_pkcs7_certificates(base64.b64decode(result.content))
    assert set(found) == {front.authority.issuing, front.authority.root}
    assert front.ask("GET", "/.well-known/est/csrattrs").headers["content-type"] == "application/csrattrs"


def test_nothing_leaves_while_the_recorder_is_away(front: FrontForTests) -> None:
    token = front.token()
    front.recording.is_away = True
    result = front.enroll(token, new_key())
    assert result.status_code == 503
    assert result.headers["retry-after"] == "1"


def test_a_source_that_is_refused_too_often_waits(tmp_path: Path) -> None:
    few = replace(LIMITS, stranger=Limit(rate_per_s=0.1, burst=3))
    front = FrontForTests(tmp_path, limits=few)
    token = front.token()
    known = front.holder("certificate-manager", "11111111-1111-4111-8111-111111111111")
    statuses = [
        front.post_csr("simpleenroll", b"", headers={"Authorization": "Basic x"}).status_code
        for _ in range(5)
    ]
    assert statuses == [401, 401, 401, 429, 429]
    assert front.enroll(token, new_key()).status_code == 429
    assert front.ask("GET", "/v1/whoami", holder=known).status_code == 200
    front.clock.later(seconds=10)
    assert front.enroll(token, new_key()).status_code == 200


def test_who_comes_with_refused_tokens_again_and_again_is_slowed_down(tmp_path: Path) -> None:
    """Each such refusal is an entry in the ledger."""
    few = replace(LIMITS, refused_tokens=Limit(rate_per_s=0.1, burst=3))
    front = FrontForTests(tmp_path, limits=few)
    spent, other = front.token(), front.token()
    assert front.enroll(spent, new_key()).status_code == 200
    statuses = [front.enroll(spent, new_key()).status_code for _ in range(5)]
    assert statuses == [403, 403, 403, 429, 429]
    assert front.enroll(other, new_key()).status_code == 429
    front.clock.later(seconds=10)
    assert front.enroll(other, new_key()).status_code == 200
