"""The last look before recording: compare the to-be-signed bytes with what was planned.

Rules:
- Nothing is taken from the builder: the issuing key's template (ca/certificates/leaf_template.py) writes the
  plan a second time, and the bytes must be the same. Tests hold the template to what pyca/cryptography and
  `identity_of` read.
- Bytes that differ are read by these two and compared field by field, only to name the difference: no bytes
  pass but the template's.
- A difference is our own fault, never the caller's: LintError names the field, and nothing is recorded or
  signed.

Precedent: Boulder's `issuance` package (prepare, lint, record, sign once). pkilint lints from outside in the
tests; at 4 ms a certificate it is too slow for the way of a request.
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID, ExtensionOID

from ca.certificates.leaf_template import Leaf
from ca.certificates.profile import LeafPlan, Profile, shard_url
from ostiary.capabilities import CAPABILITIES_OID, NO_CAPABILITIES, Capabilities
from ostiary.certificate import DIGITAL_SIGNATURE_ONLY, algorithm_of_tbs, parse_tbs
from ostiary.errors import BadInput, InternalFault
from ostiary.identity import identity_of


class LintError(InternalFault):
    """The to-be-signed bytes differ from the plan; `field` says where."""


def lint(tbs: bytes, profile: Profile, plan: LeafPlan) -> None:
    """Check that `tbs` is the one encoding of `plan`; LintError otherwise."""
    if profile.template.public_key_in(tbs, _leaf(plan)) != plan.spki_der:
        lint_by_reading(tbs, profile, plan)
        # Reading is blind to some octets (BIT STRING's unused bits, X.690 11.2.1), and the keyholder's guard
        # is not.
        raise LintError(
            "lint: the to-be-signed certificate is not encoded as planned", field="tbs_certificate"
        )


def _leaf(plan: LeafPlan) -> Leaf:
    return Leaf(
        identity=plan.identity,
        capabilities=_carried(plan),
        serial_number=plan.serial_number,
        not_before=int(plan.not_before.timestamp()),
        not_after=int(plan.not_after.timestamp()),
        shard=plan.shard,
    )


def _carried(plan: LeafPlan) -> Capabilities:
    return NO_CAPABILITIES if plan.pending else plan.identity.capabilities


def lint_by_reading(tbs: bytes, profile: Profile, plan: LeafPlan) -> None:
    """The same by reading `tbs`; LintError names the first field that differs.

    1. It parses.
    2. The identity is the planned one.
    3. So are serial number, key, validity, issuer and algorithm.
    4. So is each extension that does not come from the identity.
    5. There is no other extension.
    """
    # 1.
    try:
        certificate = parse_tbs(tbs)
        identity = identity_of(certificate)
        extensions = certificate.extensions
        key = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        issuer = certificate.issuer.public_bytes()
        validity = (certificate.not_valid_before_utc, certificate.not_valid_after_utc)
    except (BadInput, TypeError, ValueError, UnsupportedAlgorithm) as exc:
        raise LintError("lint: the to-be-signed certificate does not parse", field="tbs_certificate") from exc
    # 2.
    _same(identity.capabilities, _carried(plan), "capabilities")
    for field in ("application", "subsystem", "node", "agent", "endpoints", "node_name_in_san"):
        _same(getattr(identity, field), getattr(plan.identity, field), field)
    # 3.
    _same(certificate.serial_number, plan.serial_number, "serial_number")
    _same(key, plan.spki_der, "public_key")
    _same(validity[0], plan.not_before, "not_before")
    _same(validity[1], plan.not_after, "not_after")
    _same(issuer, profile.issuer_subject_der, "issuer")
    _same(algorithm_of_tbs(tbs), profile.signature_algorithm_der, "signature_algorithm")
    # 4. and 5.
    _lint_extensions(extensions, certificate, profile, plan)


def _same(found: object, planned: object, field: str) -> None:
    if found != planned:
        raise LintError(f"lint: {field} differs from the plan", field=field)


def _lint_extensions(
    extensions: x509.Extensions, certificate: x509.Certificate, profile: Profile, plan: LeafPlan
) -> None:
    # 4.
    serves = bool(plan.identity.endpoints) or plan.identity.node_name_in_san
    usages = [ExtendedKeyUsageOID.CLIENT_AUTH] + [ExtendedKeyUsageOID.SERVER_AUTH] * serves
    uri = x509.UniformResourceIdentifier
    wanted: list[tuple[x509.ExtensionType, bool]] = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (DIGITAL_SIGNATURE_ONLY, True),
        (x509.ExtendedKeyUsage(usages), False),
        (
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(AuthorityInformationAccessOID.OCSP, uri(profile.ocsp_url)),
                    x509.AccessDescription(
                        AuthorityInformationAccessOID.CA_ISSUERS, uri(profile.ca_issuers_url)
                    ),
                ]
            ),
            False,
        ),
        (x509.SubjectKeyIdentifier.from_public_key(certificate.public_key()), False),
        (x509.AuthorityKeyIdentifier(profile.issuer_key_identifier, None, None), False),
        (
            x509.CRLDistributionPoints(
                [x509.DistributionPoint([uri(shard_url(profile, plan.shard))], None, None, None)]
            ),
            False,
        ),
    ]
    found = {extension.oid: (extension.value, extension.critical) for extension in extensions}
    for value, critical in wanted:
        name = value.oid._name  # noqa: SLF001 -- for the message only
        _same(found.pop(value.oid, None), (value, critical), name)
    # 5. Capabilities and names were compared in step 2, through `identity_of`.
    found.pop(CAPABILITIES_OID, None)
    alternative_name = found.pop(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, None)
    _same(alternative_name and alternative_name[1], False, "subject_alternative_name")
    _same(list(found), [], "extensions")
