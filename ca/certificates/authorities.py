"""The two certificates above the leaves: the root, sealed and offline, and the issuing CA, online.

    root      DC.. + CN; CA; KU keyCertSign, cRLSign; no name constraints; its CRL has no IDP
    issuing   the same with pathLen 0, and name constraints: permitted dNSName only,
              of the application and the node domains

Rules:
- A CN is unique per key ("Ostiary Issuing CA <8 hex of the key identifier>") and has spaces (see
  ca/certificates/profile.py).
- "Critical, permitted dNSName" is the only form of name constraints that nearly all verifiers accept (below);
  the keyholder's guard enforces the rest (DC, O, hosts of URIs). The node domains are frozen here: another
  domain needs another issuing CA.
- These certificates are made once per key, so pyca/cryptography's builder writes them; the caller signs.

Standard: RFC 5280 section 4.2.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, NameOID

from ca.certificates.profile import BACKDATE
from ostiary.certificate import PublicKey
from ostiary.names import Application

_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorityPlan:
    """What an authority's certificate says besides its place in the chain."""

    application: Application
    public_key: PublicKey
    serial_number: int
    now: datetime
    not_after: datetime


def root_builder(plan: AuthorityPlan) -> x509.CertificateBuilder:
    """Return the root's certificate, ready to be signed with its own key."""
    name = _name(plan, "Ostiary Root CA")
    builder = _builder(plan, subject=name, issuer=name)
    return (
        builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(plan.public_key), critical=False)
    )


def issuing_builder(
    plan: AuthorityPlan,
    *,
    root: x509.Certificate,
    node_domains: tuple[str, ...],
    crl_url: str,
    ca_issuers_url: str,
) -> x509.CertificateBuilder:
    """Return an issuing CA's certificate, ready to be signed with the root's key.

    `crl_url` and `ca_issuers_url` are where the root's CRL and certificate can be fetched.
    """
    # Each other subtree was tried and refuses whole chains somewhere: directoryName in Go 1.19, pyca 50 and
    # rustls-webpki 0.103; URI in pyca, rustls and Chromium 156 where the leaf has a URI; excluded IP
    # addresses in strongSwan 5.9.8. mbedTLS 2.28 takes no critical name constraints at all. RFC 5280 section
    # 4.2.1.10 wants them critical, and `shop.example` permits itself and every name below it.
    root_key = root.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    permitted = [x509.DNSName(domain) for domain in dict.fromkeys((plan.application, *node_domains))]
    issuers = x509.AccessDescription(
        AuthorityInformationAccessOID.CA_ISSUERS, x509.UniformResourceIdentifier(ca_issuers_url)
    )
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(crl_url)], None, None, None)
    return (
        _builder(plan, subject=_name(plan, "Ostiary Issuing CA"), issuer=root.subject)
        # pathLen 0: no CA below this one (RFC 5280 section 4.2.1.9).
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.NameConstraints(permitted, None), critical=True)
        .add_extension(x509.AuthorityInformationAccess([issuers]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(plan.public_key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(root_key), critical=False
        )
        .add_extension(x509.CRLDistributionPoints([point]), critical=False)
    )


def _name(plan: AuthorityPlan, title: str) -> x509.Name:
    identifier = x509.SubjectKeyIdentifier.from_public_key(plan.public_key).digest.hex()[:8]
    # RFC 2247 section 3: one RDN per label, the most significant first.
    labels = reversed(plan.application.split("."))
    return x509.Name(
        [
            *(x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in labels),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{title} {identifier}"),
        ]
    )


def _builder(plan: AuthorityPlan, *, subject: x509.Name, issuer: x509.Name) -> x509.CertificateBuilder:
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=plan.public_key,
        serial_number=plan.serial_number,
        not_valid_before=plan.now.replace(microsecond=0) - BACKDATE,
        not_valid_after=plan.not_after.replace(microsecond=0),
    )
