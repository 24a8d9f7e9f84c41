"""CRLs: our bytes are those of pyca's builder; openssl honours them over the whole chain."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from ca.certificates.crl import ReasonCode, build_entry, build_tbs_cert_list, parse_reason
from ostiary.errors import BadInput
from tests.support.ca_authority import CONFIG, SERIAL, AuthorityForTests

CA = AuthorityForTests(now=datetime.now(UTC))
REVOKED_AT = datetime(2026, 11, 21, 12, 30, tzinfo=UTC)
REASONS = {
    ReasonCode.unspecified: None,
    ReasonCode.keyCompromise: x509.ReasonFlags.key_compromise,
    ReasonCode.cACompromise: x509.ReasonFlags.ca_compromise,
    ReasonCode.affiliationChanged: x509.ReasonFlags.affiliation_changed,
    ReasonCode.superseded: x509.ReasonFlags.superseded,
    ReasonCode.cessationOfOperation: x509.ReasonFlags.cessation_of_operation,
    ReasonCode.privilegeWithdrawn: x509.ReasonFlags.privilege_withdrawn,
}
revocations = st.lists(
    st.tuples(st.integers(1, (1 << 159) - 1), st.sampled_from(sorted(REASONS))),
    unique_by=lambda pair: pair[0],
)


def tbs_by_pyca(revoked: list[tuple[int, ReasonCode]], number: int, shard: int | None) -> bytes:
    builder = x509.CertificateRevocationListBuilder(
        CA.issuing.subject, CA.now, CA.now.replace(microsecond=0) + timedelta(days=1)
    )
    for serial_number, reason in revoked:
        entry = x509.RevokedCertificateBuilder(serial_number, REVOKED_AT)
        flag = REASONS[reason]
        if flag is not None:
            entry = entry.add_extension(x509.CRLReason(flag), critical=False)
        builder = builder.add_revoked_certificate(entry.build())
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(CA.key.public_key())
    builder = builder.add_extension(identifier, critical=False).add_extension(
        x509.CRLNumber(number), critical=False
    )
    if shard is not None:
        name = x509.UniformResourceIdentifier(f"{CONFIG.crl_base_url}{shard}.crl")
        point = x509.IssuingDistributionPoint([name], None, False, False, None, False, False)
        builder = builder.add_extension(point, critical=True)
    return builder.sign(CA.key, hashes.SHA256()).tbs_certlist_bytes


@given(revocations, st.integers(0, 1 << 64), st.one_of(st.none(), st.integers(0, 10**6)))
def test_our_bytes_are_those_of_pycas_builder(
    revoked: list[tuple[int, ReasonCode]], number: int, shard: int | None
) -> None:
    entries: list[bytes] = [
        build_entry(serial_number=serial, revoked_at=REVOKED_AT, reason=reason) for serial, reason in revoked
    ]
    crl = x509.load_der_x509_crl(CA.crl(entries, number=number, shard=shard))
    assert crl.tbs_certlist_bytes == tbs_by_pyca(revoked, number, shard)
    assert crl.is_signature_valid(CA.key.public_key())


def test_reasons_have_their_rfc_names() -> None:
    assert parse_reason("keyCompromise") is ReasonCode.keyCompromise
    for bad in ("key_compromise", "certificateHold", "removeFromCRL", "1", ""):
        with pytest.raises(BadInput, match="keyCompromise") as refusal:
            parse_reason(bad)
        assert refusal.value.field == "reason"


def test_a_list_of_ten_thousand_stays_small_and_quick() -> None:
    entries = [
        build_entry(serial_number=SERIAL + n, revoked_at=REVOKED_AT, reason=ReasonCode.superseded)
        for n in range(10_000)
    ]
    tbs = build_tbs_cert_list(
        CA.crl_issuer,
        entries,
        crl_number=1,
        this_update=REVOKED_AT,
        next_update=REVOKED_AT + timedelta(days=1),
        shard_url=None,
    )
    assert len(tbs) < 600_000


def verify(directory: Path, *crls: bytes, at: datetime = CA.now) -> subprocess.CompletedProcess[str]:
    """Run `openssl verify` over the whole chain, strictly, with every CRL given."""
    (directory / "root.pem").write_bytes(CA.root.public_bytes(Encoding.PEM))
    (directory / "issuing.pem").write_bytes(CA.issuing.public_bytes(Encoding.PEM))
    (directory / "leaf.pem").write_bytes(CA.leaf().public_bytes(Encoding.PEM))
    pem = b"".join(x509.load_der_x509_crl(crl).public_bytes(Encoding.PEM) for crl in crls)
    (directory / "crls.pem").write_bytes(pem)
    command = [
        "openssl",
        "verify",
        "-x509_strict",
        "-crl_check_all",
        "-extended_crl",
        "-purpose",
        "sslclient",
    ]
    command += ["-attime", str(int(at.timestamp()))]
    command += ["-CAfile", "root.pem", "-untrusted", "issuing.pem", "-CRLfile", "crls.pem", "leaf.pem"]
    return subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)


REVOCATION = build_entry(serial_number=SERIAL, revoked_at=REVOKED_AT, reason=ReasonCode.keyCompromise)


@pytest.mark.parametrize("shard", [3, None], ids=["shard", "complete"])
def test_openssl_takes_the_chain_before_revocation_and_refuses_it_after(
    tmp_path: Path, shard: int | None
) -> None:
    before = verify(tmp_path, CA.root_crl(), CA.crl([], shard=shard))
    assert (before.returncode, before.stderr) == (0, "")
    after = verify(tmp_path, CA.root_crl(), CA.crl([REVOCATION], shard=shard))
    assert after.returncode != 0
    assert "certificate revoked" in after.stderr


def test_openssl_does_not_take_another_shards_list(tmp_path: Path) -> None:
    assert "different CRL scope" in verify(tmp_path, CA.root_crl(), CA.crl([], shard=4)).stderr


def test_openssl_takes_the_newer_of_two_lists(tmp_path: Path) -> None:
    older, newer = CA.crl([]), CA.crl([REVOCATION], number=2, seconds=1)
    for crls in ((older, newer), (newer, older)):
        assert (
            "certificate revoked"
            in verify(tmp_path, CA.root_crl(), *crls, at=CA.now + timedelta(seconds=30)).stderr
        )
