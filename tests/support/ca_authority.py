"""A whole CA for tests, in memory: root, issuing, profile, guard, and each of their signatures; right by
default.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from ca.certificates.authorities import AuthorityPlan, issuing_builder, root_builder
from ca.certificates.crl import CRLIssuer, assemble_crl, build_tbs_cert_list
from ca.certificates.profile import (
    LeafPlan,
    Profile,
    ProfileConfig,
    build_responder_tbs,
    build_tbs,
    check_profile,
    plan_leaf,
)
from ca.certificates.shards import ShardNumber
from ca.items import Prepared
from ca.keyholder.certificate_guard import CertificateGuard, certificate_guard
from ca.keyholder.keys import CAKeys
from ostiary.certificate import PublicKey, assemble, serial_hex, spki_der
from ostiary.identity import Identity
from ostiary.timestamp import epoch_seconds
from tests.support.certificates import IDENTITY, NOW

STATUS: Final = "http://127.0.0.1:8081/"
CONFIG: Final = ProfileConfig(
    ocsp_url=f"{STATUS}ocsp",
    ca_issuers_url=f"{STATUS}issuing.cer",
    crl_base_url=f"{STATUS}crl/",
    lifetime_s=7200,
    node_service_lifetime_s=86400,
)
LEAF_KEY: Final = ec.generate_private_key(ec.SECP256R1())
RESPONDER_KEY: Final = ec.generate_private_key(ec.SECP256R1())
SERIAL: Final = 0x5A5A_1234_5678_9ABC_DEF0_1234_5678_9ABC_DEF0_1234


@dataclass(frozen=True, kw_only=True)
class AuthorityForTests:
    """Root and issuing keys with all that is made from them; `now` is when they were made."""

    now: datetime = NOW
    root_key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP384R1())
    )
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    root: x509.Certificate = field(init=False)
    issuing: x509.Certificate = field(init=False)
    profile: Profile = field(init=False)
    guard: CertificateGuard = field(init=False)

    def __post_init__(self) -> None:
        root = root_builder(self._plan(self.root_key.public_key(), 1)).sign(self.root_key, hashes.SHA384())
        issuing = issuing_builder(
            self._plan(self.key.public_key(), 2),
            root=root,
            node_domains=("nodes.shop.example", "compute.internal"),
            crl_url=f"{STATUS}crl/root.crl",
            ca_issuers_url=f"{STATUS}root.cer",
        ).sign(self.root_key, hashes.SHA384())
        object.__setattr__(self, "root", root)
        object.__setattr__(self, "issuing", issuing)
        object.__setattr__(self, "profile", check_profile(CONFIG, issuing))
        urls = {name: getattr(CONFIG, name) for name in ("ocsp_url", "ca_issuers_url", "crl_base_url")}
        object.__setattr__(self, "guard", certificate_guard(issuing, **urls))

    def _plan(self, key: PublicKey, serial_number: int) -> AuthorityPlan:
        return AuthorityPlan(
            application=IDENTITY.application,
            public_key=key,
            serial_number=serial_number,
            now=self.now,
            not_after=self.now + timedelta(days=3650),
        )

    @property
    def crl_issuer(self) -> CRLIssuer:
        return CRLIssuer(
            subject_der=self.profile.issuer_subject_der,
            key_identifier=self.profile.issuer_key_identifier,
            signature_algorithm_der=self.profile.signature_algorithm_der,
        )

    def plan(
        self,
        identity: Identity = IDENTITY,
        *,
        key: PublicKey | None = None,
        lifetime: timedelta = timedelta(hours=2),
        serial_number: int = SERIAL,
        pending: bool = False,
        shard: int = 3,
    ) -> LeafPlan:
        return plan_leaf(
            self.profile,
            identity,
            spki_der=spki_der(key or LEAF_KEY.public_key()),
            serial_number=serial_number,
            now=self.now,
            lifetime=lifetime,
            shard=ShardNumber(shard),
            pending=pending,
        )

    def prepared(self, plan: LeafPlan | None = None) -> Prepared:
        """The item's part of a plan: plain fields and bytes that say the same."""
        made = plan or self.plan()
        identity = made.identity
        return Prepared(
            serial=serial_hex(made.serial_number),
            subsystem=identity.subsystem,
            node=identity.node,
            agent=identity.agent,
            capabilities=() if made.pending else tuple(sorted(identity.capabilities)),
            endpoints=tuple(str(endpoint) for endpoint in identity.endpoints),
            not_before=epoch_seconds(made.not_before),
            not_after=epoch_seconds(made.not_after),
            shard=made.shard,
            spki_digest=sha256(made.spki_der).digest(),
            tbs=build_tbs(self.profile, made),
        )

    def keys(self) -> CAKeys:
        """What this CA's keyholder would unseal."""
        return CAKeys(
            application=IDENTITY.application,
            issuing_certificate=self.issuing.public_bytes(serialization.Encoding.DER),
            ocsp_url=CONFIG.ocsp_url,
            ca_issuers_url=CONFIG.ca_issuers_url,
            crl_base_url=CONFIG.crl_base_url,
            issuing_key=_pkcs8(self.key),
            ledger_key=_pkcs8(ed25519.Ed25519PrivateKey.generate()),
        )

    def sign(self, tbs: bytes) -> x509.Certificate:
        signature = self.key.sign(tbs, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))
        return x509.load_der_x509_certificate(assemble(tbs, self.profile.signature_algorithm_der, signature))

    def leaf(self, plan: LeafPlan | None = None) -> x509.Certificate:
        return self.sign(build_tbs(self.profile, plan or self.plan()))

    def responder(self, key: PublicKey | None = None) -> x509.Certificate:
        return self.sign(
            build_responder_tbs(
                self.profile,
                number=1,
                spki_der=spki_der(key or RESPONDER_KEY.public_key()),
                serial_number=77,
                now=self.now,
                lifetime=timedelta(hours=12),
            )
        )

    def crl(
        self, entries: Sequence[bytes], *, number: int = 1, shard: int | None = 3, seconds: int = 0
    ) -> bytes:
        this_update = self.now.replace(microsecond=0) + timedelta(seconds=seconds)
        tbs = build_tbs_cert_list(
            self.crl_issuer,
            entries,
            crl_number=number,
            this_update=this_update,
            next_update=this_update + timedelta(days=1),
            shard_url=None if shard is None else f"{CONFIG.crl_base_url}{shard}.crl",
        )
        return assemble_crl(tbs, self.crl_issuer, self.key.sign(tbs, ec.ECDSA(hashes.SHA256())))

    def root_crl(self) -> bytes:
        return (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.root.subject)
            .last_update(self.now)
            .next_update(self.now + timedelta(days=30))
            .sign(self.root_key, hashes.SHA384())
            .public_bytes(serialization.Encoding.DER)
        )


def _pkcs8(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
