"""The certificate profile: what this CA writes into a certificate, byte for byte.

    leaf        Subject, SAN and capabilities of an identity; KU digitalSignature; EKU clientAuth, and with
                endpoints serverAuth
    responder   DC.. + CN "Ostiary OCSP <n>"; EKU OCSPSigning; id-pkix-ocsp-nocheck; at most a day

Rules:
- ProfileConfig (untrusted) -> check_profile -> Profile (checked). The issuing certificate decides issuer, key
  identifier, algorithm, application and node domains; the configuration adds the URLs and lifetimes.
- The to-be-signed bytes are written by hand, in about 20 us, and equal those of pyca/cryptography's builder
  (a test), which takes 160 to 270 us.
- One extension order: BC, KU, EKU, SAN, AIA, SKI, AKI, CRLDP, capabilities.
- notBefore is backdated by 60 s; notAfter is `now` + lifetime; whole seconds.

Standard: RFC 5280 section 4, RFC 6960 section 4.2.2.2.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509

from ca.certificates.leaf_template import LeafTemplate, leaf_template
from ca.certificates.shards import ShardNumber
from ostiary import der
from ostiary.capabilities import CAPABILITIES_OID, encode_extension
from ostiary.certificate import accept_public_key, signature_algorithm
from ostiary.errors import BadInput, Misconfigured
from ostiary.identity import Identity, application_rdns, subject_alternative_name_der, subject_der
from ostiary.names import Application, is_within, parse_application

# A verifier whose clock is up to a minute late takes a new certificate at once.
BACKDATE: Final = timedelta(seconds=60)
MAX_LIFETIME: Final = timedelta(hours=24)
MIN_LIFETIME: Final = timedelta(minutes=1)
SERIAL_RANDOM_BYTES: Final = 20

_VERSION_3: Final = der.explicit(0, der.integer(2))
_BASIC_CONSTRAINTS: Final = der.oid("2.5.29.19")
_KEY_USAGE: Final = der.oid("2.5.29.15")
_EXTENDED_KEY_USAGE: Final = der.oid("2.5.29.37")
_ALTERNATIVE_NAME: Final = der.oid("2.5.29.17")
_AUTHORITY_INFORMATION: Final = der.oid("1.3.6.1.5.5.7.1.1")
_SUBJECT_KEY: Final = der.oid("2.5.29.14")
_AUTHORITY_KEY: Final = der.oid("2.5.29.35")
_CRL_DISTRIBUTION: Final = der.oid("2.5.29.31")
_CAPABILITIES: Final = der.oid(CAPABILITIES_OID.dotted_string)
_OCSP_NO_CHECK: Final = der.oid("1.3.6.1.5.5.7.48.1.5")
_COMMON_NAME: Final = der.oid("2.5.4.3")

_CLIENT_AUTH: Final = der.oid("1.3.6.1.5.5.7.3.2")
_SERVER_AUTH: Final = der.oid("1.3.6.1.5.5.7.3.1")
_OCSP_SIGNING: Final = der.oid("1.3.6.1.5.5.7.3.9")
_AD_OCSP: Final = der.oid("1.3.6.1.5.5.7.48.1")
_AD_CA_ISSUERS: Final = der.oid("1.3.6.1.5.5.7.48.2")
_URI: Final = 6


def _extension(oid: bytes, value: bytes, *, critical: bool = False) -> der.DER:
    """Encode Extension; DER leaves out `critical FALSE`."""
    return der.sequence(oid, der.boolean_true() if critical else b"", der.octet_string(value))


# BasicConstraints of an end entity is an empty SEQUENCE: DER leaves out `cA FALSE`. KeyUsage digitalSignature
# is bit 0, so one octet 0x80 with seven unused bits.
_END_ENTITY: Final = _extension(_BASIC_CONSTRAINTS, der.sequence(), critical=True) + _extension(
    _KEY_USAGE, der.bit_string(b"\x80", unused_bits=7), critical=True
)
# Not critical on leaves: pyca/cryptography's default policies refuse a critical EKU there.
_EKU_CLIENT: Final = _extension(_EXTENDED_KEY_USAGE, der.sequence(_CLIENT_AUTH))
_EKU_CLIENT_AND_SERVER: Final = _extension(_EXTENDED_KEY_USAGE, der.sequence(_CLIENT_AUTH, _SERVER_AUTH))
_EKU_OCSP: Final = _extension(_EXTENDED_KEY_USAGE, der.sequence(_OCSP_SIGNING))
_NO_CHECK: Final = _extension(_OCSP_NO_CHECK, der.null())


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileConfig:
    """What an operator configured, not yet checked.

    `crl_base_url` ends with a slash, and a shard's URL is `<base><n>.crl`; `lifetime_s` is for agents,
    `node_service_lifetime_s` for node controllers, managers and services.
    """

    ocsp_url: str
    ca_issuers_url: str
    crl_base_url: str
    lifetime_s: int
    node_service_lifetime_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """A checked profile of one issuing key; made by `check_profile` only. `template` is what its leaves are
    compared with.
    """

    application: Application
    node_domains: tuple[str, ...]
    issuer_subject_der: bytes
    issuer_key_identifier: bytes
    issuer_not_after: datetime
    signature_algorithm_der: bytes
    ocsp_url: str
    ca_issuers_url: str
    crl_base_url: str
    lifetime: timedelta
    node_service_lifetime: timedelta
    authority_information_extension: bytes
    authority_key_extension: bytes
    template: LeafTemplate = field(init=False)

    def __post_init__(self) -> None:
        template = leaf_template(
            issuer_der=self.issuer_subject_der,
            key_identifier=self.issuer_key_identifier,
            signature_algorithm_der=self.signature_algorithm_der,
            ocsp_url=self.ocsp_url,
            ca_issuers_url=self.ca_issuers_url,
            crl_base_url=self.crl_base_url,
        )
        object.__setattr__(self, "template", template)


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafPlan:
    """The contents of one leaf. A pending certificate carries none of its identity's capabilities."""

    identity: Identity
    spki_der: bytes
    serial_number: int
    not_before: datetime
    not_after: datetime
    shard: ShardNumber
    pending: bool


def check_profile(config: ProfileConfig, issuer: x509.Certificate) -> Profile:
    """Check a configuration against the issuing certificate it is for; Misconfigured names the option."""
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.NameConstraints).value
        key_identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    except (ValueError, x509.ExtensionNotFound) as exc:
        raise Misconfigured("the issuing certificate has no name constraints, or no key identifier") from exc
    for option in ("ocsp_url", "ca_issuers_url", "crl_base_url"):
        _check_url(getattr(config, option), option)
    if not config.crl_base_url.endswith("/"):
        raise Misconfigured("crl_base_url: it must end with '/'", field="crl_base_url")
    return Profile(
        application=application_of_issuer(issuer),
        node_domains=tuple(
            name.value for name in constraints.permitted_subtrees or () if isinstance(name, x509.DNSName)
        ),
        issuer_subject_der=issuer.subject.public_bytes(),
        issuer_key_identifier=key_identifier,
        issuer_not_after=issuer.not_valid_after_utc,
        signature_algorithm_der=signature_algorithm(accept_public_key(issuer.public_key())),
        ocsp_url=config.ocsp_url,
        ca_issuers_url=config.ca_issuers_url,
        crl_base_url=config.crl_base_url,
        lifetime=_lifetime(config.lifetime_s, "lifetime_s"),
        node_service_lifetime=_lifetime(config.node_service_lifetime_s, "node_service_lifetime_s"),
        authority_information_extension=_extension(
            _AUTHORITY_INFORMATION,
            der.sequence(
                der.sequence(_AD_OCSP, _uri(config.ocsp_url)),
                der.sequence(_AD_CA_ISSUERS, _uri(config.ca_issuers_url)),
            ),
        ),
        authority_key_extension=_extension(_AUTHORITY_KEY, der.sequence(der.implicit(0, key_identifier))),
    )


def application_of_issuer(issuer: x509.Certificate) -> Application:
    """Return the application that an issuing certificate's DCs name."""
    labels = issuer.subject.get_attributes_for_oid(x509.NameOID.DOMAIN_COMPONENT)
    return parse_application(".".join(str(label.value) for label in reversed(labels)))


def _check_url(url: str, option: str) -> None:
    """Check a status service's URL: plain http, and ASCII.

    RFC 5280 section 8 warns of https there: a client would have to check the status of the status service's
    own certificate first. Everything that is fetched is signed.
    """
    if not (url.startswith("http://") and url.isascii() and url.isprintable() and " " not in url):
        raise Misconfigured(f"{option}: {url[:256]!r} is not an http:// URL in ASCII", field=option)


def _lifetime(seconds: int, option: str) -> timedelta:
    lifetime = timedelta(seconds=seconds)
    if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
        raise Misconfigured(f"{option}: {seconds} s is not between a minute and 24 hours", field=option)
    return lifetime


def serial_number(random_bytes: bytes) -> int:
    """Return a serial number of 159 random bits, positive, from SERIAL_RANDOM_BYTES (20) random octets.

    159, because RFC 5280 section 4.1.2.2 allows 20 octets, and the highest bit is the sign.
    """
    if len(random_bytes) != SERIAL_RANDOM_BYTES:
        raise AssertionError(f"a serial number takes {SERIAL_RANDOM_BYTES} random octets")
    number = int.from_bytes(random_bytes, "big") >> 1
    if number == 0:
        raise AssertionError("source of randomness returned zeros")
    return number


def shard_url(profile: Profile, shard: ShardNumber) -> str:
    """Return the URL of a shard's CRL, as it stands in CRLDP and in the CRL's own IDP."""
    return f"{profile.crl_base_url}{shard}.crl"


def plan_leaf(
    profile: Profile,
    identity: Identity,
    *,
    spki_der: bytes,
    serial_number: int,
    now: datetime,
    lifetime: timedelta,
    shard: ShardNumber,
    pending: bool,
) -> LeafPlan:
    """Plan a leaf; BadInput when identity or lifetime do not fit the profile.

    1. The application is this CA's.
    2. The node lies in one of its node domains, and with it every name of the leaf.
    3. The lifetime is allowed; the leaf ends with its issuer at the latest.
    """
    # 1.
    if identity.application != profile.application:
        raise BadInput(
            f"application: '{identity.application}' is not this CA's, '{profile.application}'",
            field="application",
        )
    # 2.
    if not any(is_within(identity.node, domain) for domain in profile.node_domains):
        raise BadInput(
            f"node: '{identity.node}' is in none of the node domains {', '.join(profile.node_domains)}",
            field="node",
        )
    # 3.
    if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
        raise BadInput(f"lifetime: {lifetime} is not between a minute and 24 hours", field="lifetime")
    now = now.replace(microsecond=0)
    return LeafPlan(
        identity=identity,
        spki_der=spki_der,
        serial_number=serial_number,
        not_before=now - BACKDATE,
        not_after=min(now + lifetime, profile.issuer_not_after),
        shard=shard,
        pending=pending,
    )


def build_tbs(profile: Profile, plan: LeafPlan) -> der.DER:
    """Write the TBSCertificate of a leaf (DER)."""
    identity = plan.identity
    serves = identity.endpoints or identity.node_name_in_san
    capabilities = b""
    if identity.capabilities and not plan.pending:
        capabilities = _extension(_CAPABILITIES, encode_extension(identity.capabilities))
    # The one order of the profile; ca/certificates/leaf_template.py has the same.
    extensions = der.sequence(
        _END_ENTITY,
        _EKU_CLIENT_AND_SERVER if serves else _EKU_CLIENT,
        # pyca's ClientVerifier refuses a leaf without a SAN, so there is a DNS name even without endpoints.
        _extension(_ALTERNATIVE_NAME, subject_alternative_name_der(identity)),
        profile.authority_information_extension,
        _extension(_SUBJECT_KEY, der.octet_string(subject_key_identifier(plan.spki_der))),
        profile.authority_key_extension,
        _extension(_CRL_DISTRIBUTION, _distribution_points(shard_url(profile, plan.shard))),
        capabilities,
    )
    return _tbs(
        profile,
        plan.serial_number,
        plan.not_before,
        plan.not_after,
        subject_der(identity),
        plan.spki_der,
        extensions,
    )


def build_responder_tbs(
    profile: Profile, *, number: int, spki_der: bytes, serial_number: int, now: datetime, lifetime: timedelta
) -> der.DER:
    """Write the TBSCertificate of an OCSP responder (DER).

    Its CN has spaces on purpose: without a SAN, OpenSSL checks a CN that looks like a host name against the
    name constraints. It names no revocation source (nocheck, RFC 6960 section 4.2.2.2.1), so its short
    lifetime takes the place of revocation.
    """
    if not MIN_LIFETIME <= lifetime <= MAX_LIFETIME:
        raise BadInput(f"lifetime: {lifetime} is not between a minute and 24 hours", field="lifetime")
    now = now.replace(microsecond=0)
    subject = der.sequence(
        application_rdns(profile.application),
        der.set_of_one(der.sequence(_COMMON_NAME, der.utf8_string(f"Ostiary OCSP {number}"))),
    )
    extensions = der.sequence(
        _END_ENTITY,
        _EKU_OCSP,
        _extension(_SUBJECT_KEY, der.octet_string(subject_key_identifier(spki_der))),
        profile.authority_key_extension,
        _NO_CHECK,
    )
    not_after = min(now + lifetime, profile.issuer_not_after)
    return _tbs(profile, serial_number, now - BACKDATE, not_after, subject, spki_der, extensions)


def _tbs(  # noqa: PLR0917 -- the fields of TBSCertificate in their order
    profile: Profile,
    number: int,
    not_before: datetime,
    not_after: datetime,
    subject: bytes,
    spki_der: bytes,
    extensions: bytes,
) -> der.DER:
    return der.sequence(
        _VERSION_3,
        der.integer(number),
        profile.signature_algorithm_der,
        profile.issuer_subject_der,
        der.sequence(der.time(not_before), der.time(not_after)),
        subject,
        spki_der,
        der.explicit(3, extensions),
    )


def subject_key_identifier(spki_der: bytes) -> bytes:
    """Return SHA-1 of the subjectPublicKey bits (RFC 5280 section 4.2.1.2, method 1): a name, not a proof."""
    # content[0] of a BIT STRING counts its unused bits; the hash is over the bits alone.
    _, bits = der.items(der.expect(spki_der, der.SEQUENCE, what="public_key"))
    content = der.expect(bits[1], der.BIT_STRING, what="public_key")
    return hashlib.sha1(content[1:], usedforsecurity=False).digest()


def _uri(url: str) -> der.DER:
    return der.implicit(_URI, url.encode("ascii"))


def _distribution_points(url: str) -> der.DER:
    """Encode CRLDistributionPoints with one point: [0] DistributionPointName, [0] fullName, one URI."""
    return der.sequence(der.sequence(der.explicit(0, der.explicit(0, _uri(url)))))
