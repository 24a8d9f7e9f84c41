"""The keyholder's own check of every to-be-signed structure: what the issuing key may sign. Part of the
trusted base.

Rules:
- The guard is made of what `ca init` sealed: the issuing certificate and the URLs of the status services.
- Three functions check three structures. The caller chooses the one that an item asks for, never the bytes:
  so nobody can have one structure signed as another.
- What is not listed is refused: `Forbidden(rule="guard-...")`. A refusal here means a lie or a bug in a role
  before this one.

Not checked here: whether the identity may have this certificate (the recorder knows tokens and lineages), and
the entries of a CRL. A CRL that leaves a revoked certificate out passes: the ledger shows the revocation.

Standard: RFC 5280. The profile is ca/certificates/profile.py's; docs/architecture.md, "Identity in the
certificate", has the names.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID, NameOID

from ca.certificates.leaf_template import LeafTemplate, leaf_template
from ostiary.capabilities import CAPABILITIES_OID
from ostiary.certificate import (
    DIGITAL_SIGNATURE_ONLY,
    accept_public_key,
    algorithm_of_tbs,
    assemble,
    parse_tbs,
    signature_algorithm,
)
from ostiary.errors import BadInput, Forbidden
from ostiary.identity import Identity, identity_of
from ostiary.names import Application, is_within, parse_application

# A recorded certificate may wait: for its batch, for a keyholder that restarts, for a clock that differs.
CLOCK_TOLERANCE: Final = timedelta(minutes=5)
# A day, and the minute by which notBefore is backdated (ca/certificates/profile.py).
MAX_VALIDITY: Final = timedelta(hours=24, minutes=1)
MAX_CRL_VALIDITY: Final = timedelta(days=7)
MAX_SERIAL_BITS: Final = 159  # 20 octets without the sign (RFC 5280 section 4.1.2.2)
MAX_SHARD: Final = 10**18 - 1

_COMMON_EXTENSIONS: Final = frozenset(
    (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    )
)
_RESPONDER_EXTENSIONS: Final = _COMMON_EXTENSIONS | {ExtensionOID.OCSP_NO_CHECK}
_LEAF_EXTENSIONS: Final = _COMMON_EXTENSIONS | {
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.AUTHORITY_INFORMATION_ACCESS,
    ExtensionOID.CRL_DISTRIBUTION_POINTS,
}
# What parsing by pyca/cryptography raises for bytes that are no certificate, or none it can read. Anything
# else is a bug, and ends the item as such.
_UNREADABLE: Final = (
    BadInput,
    ValueError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_CRITICAL: Final = frozenset((ExtensionOID.BASIC_CONSTRAINTS, ExtensionOID.KEY_USAGE))
# One spelling per number, up to MAX_SHARD: `007.crl` would be another URL for the same list.
_SHARD_NUMBER: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_NOT_A_CA: Final = x509.BasicConstraints(ca=False, path_length=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateGuard:
    """The values that stay the same over the life of an issuing key."""

    application: Application
    node_domains: tuple[str, ...]
    issuer: x509.Name
    issuer_not_after: datetime
    signature_algorithm_der: bytes
    authority_key: x509.AuthorityKeyIdentifier
    authority_information: x509.AuthorityInformationAccess
    crl_base_url: str
    template: LeafTemplate


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLScope:
    """Number and shard of a checked list; `shard` is None for the complete one."""

    crl_number: int
    shard: int | None


def certificate_guard(
    issuer: x509.Certificate, *, ocsp_url: str, ca_issuers_url: str, crl_base_url: str
) -> CertificateGuard:
    """Make the guard of an issuing key; its certificate names application (DCs) and node domains (name
    constraints).
    """
    labels = issuer.subject.get_attributes_for_oid(NameOID.DOMAIN_COMPONENT)
    permitted = issuer.extensions.get_extension_for_class(x509.NameConstraints).value.permitted_subtrees or ()
    identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    locations = (
        (AuthorityInformationAccessOID.OCSP, ocsp_url),
        (AuthorityInformationAccessOID.CA_ISSUERS, ca_issuers_url),
    )
    algorithm = signature_algorithm(accept_public_key(issuer.public_key()))
    return CertificateGuard(
        application=parse_application(".".join(str(label.value) for label in reversed(labels))),
        node_domains=tuple(name.value for name in permitted if isinstance(name, x509.DNSName)),
        issuer=issuer.subject,
        issuer_not_after=issuer.not_valid_after_utc,
        signature_algorithm_der=algorithm,
        authority_key=x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
        authority_information=x509.AuthorityInformationAccess(
            [x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for method, url in locations]
        ),
        crl_base_url=crl_base_url,
        template=leaf_template(
            issuer_der=issuer.subject.public_bytes(),
            key_identifier=identifier.digest,
            signature_algorithm_der=algorithm,
            ocsp_url=ocsp_url,
            ca_issuers_url=ca_issuers_url,
            crl_base_url=crl_base_url,
        ),
    )


def check_tbs_certificate(tbs: bytes, guard: CertificateGuard, now: datetime) -> Identity:
    """Check a leaf's TBSCertificate (DER) and return whose it is; Forbidden names the rule.

    1. It parses, is ours (issuer, algorithm), names a sound key, and lives at most a day from about now.
    2. Its subject and names are exactly an identity's; the identity belongs to the application, and its node
       lies in a node domain, and with it all its names.
    3. It has exactly the known extensions, each with the one value that it may have.
    """
    # 1.
    certificate = _parse(tbs)
    _check_frame(certificate, tbs, guard, now)
    # 2. Verifiers hold only DNS names to the name constraints (ca/certificates/authorities.py); this holds
    #    the rest.
    identity = _identity(certificate)
    _require(identity.application == guard.application, "application")
    _require(any(is_within(identity.node, domain) for domain in guard.node_domains), "node-domain")
    # 3. A certificate without capabilities has no extension for them: one form, not two.
    expected = _LEAF_EXTENSIONS | {CAPABILITIES_OID} if identity.capabilities else _LEAF_EXTENSIONS
    values = _values(certificate, expected)
    _require(
        values[ExtensionOID.AUTHORITY_INFORMATION_ACCESS] == guard.authority_information,
        "authority-information",
    )
    _require(_is_shard(values[ExtensionOID.CRL_DISTRIBUTION_POINTS], guard), "crl-distribution-point")
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH]
    if identity.endpoints or identity.node_name_in_san:
        usages.append(ExtendedKeyUsageOID.SERVER_AUTH)
    _check_end_entity(certificate, values, guard, usages)
    return identity


def check_tbs_responder(tbs: bytes, guard: CertificateGuard, now: datetime) -> None:
    """Check an OCSP responder's TBSCertificate (DER); Forbidden names the rule. Not checked: whose key it is.

    1. It parses, is ours, names a sound key, and lives at most a day.
    2. Its subject is the application's DCs and "Ostiary OCSP <n>", in their one encoding.
    3. It has exactly a responder's extensions, nocheck among them.
    """
    # 1.
    certificate = _parse(tbs)
    _check_frame(certificate, tbs, guard, now)
    # 2.
    labels = [
        x509.NameAttribute(NameOID.DOMAIN_COMPONENT, part) for part in reversed(guard.application.split("."))
    ]
    common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    _require(len(common_names) == 1, "responder-name")
    prefix, _, number = str(common_names[0].value).rpartition(" ")
    _require(prefix == "Ostiary OCSP" and number.isascii() and number.isdigit(), "responder-name")
    _require(certificate.subject == x509.Name([*labels, common_names[0]]), "responder-name")
    # 3.
    values = _values(certificate, _RESPONDER_EXTENSIONS)
    _check_end_entity(certificate, values, guard, [ExtendedKeyUsageOID.OCSP_SIGNING])


def shard_of(certificate: x509.Certificate, guard: CertificateGuard) -> int:
    """Return the shard that a checked leaf names as its CRL distribution point."""
    points = certificate.extensions.get_extension_for_class(x509.CRLDistributionPoints).value
    return _shard(points[0].full_name, guard)


def check_tbs_cert_list(tbs: bytes, guard: CertificateGuard, now: datetime) -> CRLScope:
    """Check a TBSCertList (DER) and return its number and shard; Forbidden names the rule. Not checked: its
    entries.

    1. It parses.
    2. It is ours (issuer, algorithm), of about now, and ends within MAX_CRL_VALIDITY.
    3. It has a number and our key identifier, neither critical.
    4. It has no other extension, but for a shard's: the critical IDP with the URL of that shard and nothing
       else.
    """
    # 1. pyca/cryptography parses whole lists only, so the bytes get a signature that nobody looks at.
    try:
        crl = x509.load_der_x509_crl(assemble(tbs, algorithm_of_tbs(tbs), b"\x00"))
        issuer = crl.issuer.public_bytes()
        found = {extension.oid: (extension.value, extension.critical) for extension in crl.extensions}
        this_update, next_update = crl.last_update_utc, crl.next_update_utc
    except _UNREADABLE as exc:
        raise Forbidden("guard: not a TBSCertList", rule="guard-parse") from exc
    # 2.
    _require(issuer == guard.issuer.public_bytes(), "issuer")
    _require(algorithm_of_tbs(tbs) == guard.signature_algorithm_der, "signature-algorithm")
    _require(abs(now - this_update) <= CLOCK_TOLERANCE, "this-update")
    _require(
        next_update is not None and this_update < next_update <= this_update + MAX_CRL_VALIDITY, "next-update"
    )
    # 3.
    number, critical = found.pop(ExtensionOID.CRL_NUMBER, (None, True))
    crl_number = number.crl_number if isinstance(number, x509.CRLNumber) else -1
    _require(crl_number >= 0 and not critical, "crl-number")
    _require(
        found.pop(ExtensionOID.AUTHORITY_KEY_IDENTIFIER, None) == (guard.authority_key, False),
        "authority-key",
    )
    # 4.
    point, critical = found.pop(ExtensionOID.ISSUING_DISTRIBUTION_POINT, (None, True))
    _require(not found, "crl-extensions")
    shard: int | None = None
    if isinstance(point, x509.IssuingDistributionPoint):
        shard = _shard(point.full_name, guard)
        _require(critical and point == _scope(guard, shard), "issuing-distribution-point")
    return CRLScope(crl_number=crl_number, shard=shard)


def _require(condition: bool, rule: str) -> None:  # noqa: FBT001 -- it is what the function is about
    if not condition:
        raise Forbidden(f"guard: this key may not sign this {rule}", rule=f"guard-{rule}")


def _parse(tbs: bytes) -> x509.Certificate:
    """Parse, and touch each part that pyca/cryptography parses on first use, so that nothing fails later."""
    # A ValueError outside this function would be a bug's, and end as an alarm of another kind.
    try:
        certificate = parse_tbs(tbs)
        parts = (
            certificate.subject,
            certificate.issuer,
            certificate.extensions,
            certificate.not_valid_before_utc,
        )
        accept_public_key(certificate.public_key())
    except _UNREADABLE as exc:
        raise Forbidden(
            "guard: not a TBSCertificate with a key of a kind that this CA certifies", rule="guard-parse"
        ) from exc
    del parts
    return certificate


def _identity(certificate: x509.Certificate) -> Identity:
    try:
        return identity_of(certificate)
    except BadInput as exc:
        raise Forbidden(f"guard: {exc.message}", rule="guard-identity", field=exc.field) from exc


def _check_frame(certificate: x509.Certificate, tbs: bytes, guard: CertificateGuard, now: datetime) -> None:
    """Check what leaves and responders have in common outside their extensions."""
    not_before, not_after = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    # The Name is compared as DER: two encodings of one name are different issuers to some verifiers.
    _require(certificate.version is x509.Version.v3, "version")
    _require(certificate.issuer.public_bytes() == guard.issuer.public_bytes(), "issuer")
    _require(algorithm_of_tbs(tbs) == guard.signature_algorithm_der, "signature-algorithm")
    _require(0 < certificate.serial_number < 1 << MAX_SERIAL_BITS, "serial-number")
    _require(abs(now - not_before) <= CLOCK_TOLERANCE, "not-before")
    _require(not_before < not_after <= min(not_before + MAX_VALIDITY, guard.issuer_not_after), "not-after")
    try:
        accept_public_key(certificate.public_key())
    except (BadInput, ValueError) as exc:
        raise Forbidden(
            "guard: this CA certifies no public key of this kind", rule="guard-public-key"
        ) from exc


def _values(
    certificate: x509.Certificate, expected: frozenset[x509.ObjectIdentifier]
) -> dict[x509.ObjectIdentifier, x509.ExtensionType]:
    """The extensions' values, if there are exactly the expected ones, and the two critical ones are
    critical.
    """
    extensions = certificate.extensions
    _require({extension.oid for extension in extensions} == expected, "extensions")
    _require({extension.oid for extension in extensions if extension.critical} == _CRITICAL, "critical")
    return {extension.oid: extension.value for extension in extensions}


def _check_end_entity(
    certificate: x509.Certificate,
    values: dict[x509.ObjectIdentifier, x509.ExtensionType],
    guard: CertificateGuard,
    usages: list[x509.ObjectIdentifier],
) -> None:
    """Check the extensions that a leaf and a responder have in common; `_values` has checked the set of
    them.
    """
    subject_key = x509.SubjectKeyIdentifier.from_public_key(certificate.public_key())
    _require(values[ExtensionOID.BASIC_CONSTRAINTS] == _NOT_A_CA, "basic-constraints")
    _require(values[ExtensionOID.KEY_USAGE] == DIGITAL_SIGNATURE_ONLY, "key-usage")
    _require(values[ExtensionOID.EXTENDED_KEY_USAGE] == x509.ExtendedKeyUsage(usages), "extended-key-usage")
    _require(values[ExtensionOID.SUBJECT_KEY_IDENTIFIER] == subject_key, "subject-key")
    _require(values[ExtensionOID.AUTHORITY_KEY_IDENTIFIER] == guard.authority_key, "authority-key")


def _is_shard(points: x509.ExtensionType, guard: CertificateGuard) -> bool:
    """Return whether this is one distribution point, the URL of a shard's CRL and nothing else."""
    if not isinstance(points, x509.CRLDistributionPoints) or len(points) != 1:
        return False
    name = _shard_name(guard, _shard(points[0].full_name, guard))
    return points == x509.CRLDistributionPoints([x509.DistributionPoint([name], None, None, None)])


def _shard(names: Sequence[x509.GeneralName] | None, guard: CertificateGuard) -> int:
    """Return the number in `<base><n>.crl`; Forbidden when there is none. Callers compare the whole name."""
    url = str(names[0].value) if names else ""
    number = url.removeprefix(guard.crl_base_url).removesuffix(".crl")
    _require(_SHARD_NUMBER.fullmatch(number) is not None, "crl-distribution-point")
    return int(number)


def _shard_name(guard: CertificateGuard, shard: int) -> x509.UniformResourceIdentifier:
    return x509.UniformResourceIdentifier(f"{guard.crl_base_url}{shard}.crl")


def _scope(guard: CertificateGuard, shard: int) -> x509.IssuingDistributionPoint:
    return x509.IssuingDistributionPoint(
        full_name=[_shard_name(guard, shard)],
        relative_name=None,
        only_contains_user_certs=False,
        only_contains_ca_certs=False,
        only_some_reasons=None,
        indirect_crl=False,
        only_contains_attribute_certs=False,
    )
