"""The keyholder signs what its record describes, and refuses by name where bytes and record differ in one
respect.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ca.certificates.crl import build_tbs_cert_list
from ca.certificates.profile import build_responder_tbs, build_tbs
from ca.items import (
    COMPLETE,
    FrontCertificate,
    PublishCRL,
    Redeem,
    Renew,
    Resign,
    ResponderCertificate,
    VoidToken,
)
from ca.keyholder.evaluator import CAEvaluator
from ostiary.certificate import parse_tbs, serial_hex, spki_der
from ostiary.errors import Forbidden
from ostiary.keyholder.protocol import Document
from ostiary.subsystems import CERTIFICATE_AUTHORITY
from ostiary.timestamp import epoch_seconds
from ostiary.work.item import Item, RawItem
from tests.support.ca_authority import CONFIG, RESPONDER_KEY, AuthorityForTests
from tests.support.ca_decisions import OPERATOR
from tests.support.certificates import IDENTITY

CA = AuthorityForTests()
EVALUATOR = CAEvaluator(CA.keys())
OWN = replace(
    IDENTITY,
    subsystem=CERTIFICATE_AUTHORITY,
    endpoints=(),
    capabilities=frozenset(),
    node_name_in_san=True,
)


def signed(item: Item, attachment: bytes = b"") -> bytes:
    return EVALUATOR.evaluate(item, attachment, now=CA.now)


def rule_of(item: Item, attachment: bytes = b"") -> str:
    with pytest.raises(Forbidden) as refused:
        signed(item, attachment)
    return refused.value.rule


def verifies(signature: bytes, tbs: bytes) -> bool:
    CA.key.public_key().verify(signature, tbs, ec.ECDSA(hashes.SHA256()))
    return True


def responder(**changed: Any) -> ResponderCertificate:
    tbs = build_responder_tbs(
        CA.profile,
        number=1,
        spki_der=spki_der(RESPONDER_KEY.public_key()),
        serial_number=77,
        now=CA.now,
        lifetime=timedelta(hours=12),
    )
    right = ResponderCertificate(
        serial=serial_hex(77),
        not_after=epoch_seconds(parse_tbs(tbs).not_valid_after_utc),
        spki_digest=hashlib.sha256(spki_der(RESPONDER_KEY.public_key())).digest(),
        tbs=tbs,
    )
    return msgspec.structs.replace(right, **changed)


def crl_tbs(*, shard: int | None, number: int = 4) -> bytes:
    return build_tbs_cert_list(
        CA.crl_issuer,
        [],
        crl_number=number,
        this_update=CA.now,
        next_update=CA.now + timedelta(days=1),
        shard_url=None if shard is None else f"{CONFIG.crl_base_url}{shard}.crl",
    )


def crl(tbs: bytes, **changed: Any) -> PublishCRL:
    right = PublishCRL(
        shard=3,
        number=4,
        this_update=epoch_seconds(CA.now),
        revoked=0,
        tbs_digest=hashlib.sha256(tbs).digest(),
    )
    return msgspec.structs.replace(right, **changed)


def test_certificates_are_signed_whoever_asked_and_always_with_the_same_bytes() -> None:
    prepared = CA.prepared()
    items: list[Item] = [
        Redeem(token_id="t", token_digest=b"d", address="192.0.2.1", certificate=prepared),
        Renew(serial="1f", certificate=prepared),
        Resign(certificate=prepared),
    ]
    first, *others = (signed(item) for item in items)
    assert verifies(first, prepared.tbs)
    assert set(others) == {first}


def test_the_fronts_own_certificate_is_signed_as_such_only() -> None:
    own = CA.prepared(CA.plan(OWN))
    assert verifies(signed(FrontCertificate(certificate=own)), own.tbs)
    assert rule_of(Resign(certificate=own)) == "authority-name"
    assert rule_of(FrontCertificate(certificate=CA.prepared())) == "authority-name"


def test_only_a_service_has_its_nodes_name() -> None:
    plan = CA.plan(replace(IDENTITY, node_name_in_san=True))
    assert rule_of(Renew(serial="1f", certificate=CA.prepared(plan))) == "node-name"


def test_a_record_of_other_bytes_is_refused() -> None:
    prepared = CA.prepared()
    other = build_tbs(CA.profile, CA.plan(serial_number=5))
    item = Renew(serial="1f", certificate=msgspec.structs.replace(prepared, tbs=other))
    assert rule_of(item) == "record-differs"


def test_a_responders_certificate_is_signed() -> None:
    item = responder()
    assert verifies(signed(item), item.tbs)


@pytest.mark.parametrize(
    "changed", [{"serial": "4e"}, {"not_after": 1_795_000_000}, {"spki_digest": b"\x00" * 32}]
)
def test_a_responder_that_is_recorded_otherwise_is_refused(changed: dict[str, Any]) -> None:
    assert rule_of(responder(**changed)) == "record-differs"


@pytest.mark.parametrize("shard", [3, None])
def test_a_list_is_signed_by_its_digest(shard: int | None) -> None:
    tbs = crl_tbs(shard=shard)
    assert verifies(signed(crl(tbs, shard=COMPLETE if shard is None else shard), tbs), tbs)


@pytest.mark.parametrize(
    "changed", [{"shard": COMPLETE}, {"shard": 4}, {"number": 5}, {"tbs_digest": b"\x00" * 32}]
)
def test_a_list_that_is_recorded_otherwise_is_refused(changed: dict[str, Any]) -> None:
    tbs = crl_tbs(shard=3)
    assert rule_of(crl(tbs, **changed), tbs) == "record-differs"


def test_one_structure_is_never_signed_as_another() -> None:
    """The item says which guard looks; bytes of another kind do not pass it."""
    leaf, tbs = build_tbs(CA.profile, CA.plan()), crl_tbs(shard=3)
    assert rule_of(responder(tbs=leaf)).startswith("guard-")
    assert rule_of(responder(tbs=tbs)) == "guard-parse"
    assert rule_of(crl(leaf), leaf) == "guard-parse"
    as_leaf = msgspec.structs.replace(CA.prepared(), tbs=responder().tbs)
    assert rule_of(Resign(certificate=as_leaf)).startswith("guard-")


def test_what_has_nothing_to_sign_is_refused() -> None:
    assert rule_of(VoidToken(operator=OPERATOR, token_id="t")) == "kind-not-signed"
    with pytest.raises(Forbidden) as refused:
        EVALUATOR.prime(Document(approval=RawItem(b"{}"), manifest=b""), now=CA.now)
    assert refused.value.rule == "no-documents"


def test_the_signature_makes_a_certificate_of_the_issuing_key() -> None:
    prepared = CA.prepared()
    certificate = CA.sign(prepared.tbs)
    assert certificate.signature == signed(Resign(certificate=prepared))
    certificate.verify_directly_issued_by(CA.issuing)
    assert isinstance(certificate, x509.Certificate)
