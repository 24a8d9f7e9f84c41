"""The one byte string that a leaf of one issuing key can be, to compare certificates with. Pure.

All but a few values are the same in every leaf of an issuing key (`LeafTemplate`); those few are given
(`Leaf`). Whoever knows them writes the certificate a second time and compares the bytes. So nothing is
parsed, and there is no second way to say the same.

    TBSCertificate  version, serialNumber *, signature, issuer, validity *, subject *,
                    subjectPublicKeyInfo **, extensions
    extensions      BC, KU, EKU *, SAN *, AIA, SKI **, AKI, CRLDP *, capabilities *

    * from the leaf   ** from the bytes

Rules:
- pyca/cryptography encoded what does not change, not the hand that writes certificates
  (ca/certificates/profile.py): a mistake there shows here.
- Subject, SAN and capabilities have one encoding per identity (ostiary/identity.py).
- The public key is the bytes in its place; the key identifier must be that key's.

Not checked here: whether the key is sound, and all that a leaf says: times, names, domains, the key's digest.

Standard: RFC 5280 section 4.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from ostiary import der
from ostiary.capabilities import CAPABILITIES_OID, Capabilities, encode_extension
from ostiary.certificate import DIGITAL_SIGNATURE_ONLY
from ostiary.errors import BadInput
from ostiary.identity import Identity, subject_alternative_name_der, subject_der

_VERSION_3: Final = bytes.fromhex("a003020102")  # [0] EXPLICIT INTEGER 2


def _extension(oid: x509.ObjectIdentifier, value: bytes, *, critical: bool = False) -> bytes:
    return der.sequence(
        der.oid(oid.dotted_string), der.boolean_true() if critical else b"", der.octet_string(value)
    )


def _fixed(value: x509.ExtensionType, *, critical: bool = False) -> bytes:
    return _extension(value.oid, value.public_bytes(), critical=critical)


_END_ENTITY: Final = _fixed(x509.BasicConstraints(ca=False, path_length=None), critical=True) + _fixed(
    DIGITAL_SIGNATURE_ONLY, critical=True
)
_CLIENT: Final = _fixed(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]))
_CLIENT_AND_SERVER: Final = _fixed(
    x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
)
_ALTERNATIVE_NAME: Final = x509.SubjectAlternativeName.oid
_SUBJECT_KEY: Final = x509.SubjectKeyIdentifier.oid


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaf:
    """What differs from leaf to leaf; times in epoch seconds. `capabilities` are those it carries, whatever
    its identity has.
    """

    identity: Identity
    capabilities: Capabilities
    serial_number: int
    not_before: int
    not_after: int
    shard: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LeafTemplate:
    """What is the same in all leaves of one issuing key, DER; made by `leaf_template` only."""

    algorithm_and_issuer: bytes
    authority_information: bytes
    authority_key: bytes
    crl_base_url: str

    def public_key_in(self, tbs: bytes, leaf: Leaf) -> bytes | None:
        """Return the SubjectPublicKeyInfo (DER) in `tbs` if these bytes are exactly that leaf around it, else
        None.
        """
        # Lengths in `tbs` are the sender's, so they only say where the key would stand. What counts is the
        # comparison below: it covers every octet, those lengths included.
        head = _head(self, leaf)
        try:
            _, start, _ = der.read(tbs)
            _, _, end = der.read(tbs, start + len(head))
            public_key = tbs[start + len(head) : end]
            key_identifier = _key_identifier(public_key)
        except BadInput:
            return None
        written = der.sequence(head, public_key, _extensions(self, leaf, key_identifier))
        return public_key if tbs == written else None


def leaf_template(
    *,
    issuer_der: bytes,
    key_identifier: bytes,
    signature_algorithm_der: bytes,
    ocsp_url: str,
    ca_issuers_url: str,
    crl_base_url: str,
) -> LeafTemplate:
    """Make the template of an issuing key; `issuer_der` is its Name, `crl_base_url` ends with a slash."""
    locations = (
        (AuthorityInformationAccessOID.OCSP, ocsp_url),
        (AuthorityInformationAccessOID.CA_ISSUERS, ca_issuers_url),
    )
    return LeafTemplate(
        algorithm_and_issuer=signature_algorithm_der + issuer_der,
        authority_information=_fixed(
            x509.AuthorityInformationAccess(
                [
                    x509.AccessDescription(method, x509.UniformResourceIdentifier(url))
                    for method, url in locations
                ]
            )
        ),
        authority_key=_fixed(x509.AuthorityKeyIdentifier(key_identifier, None, None)),
        crl_base_url=crl_base_url,
    )


def _head(template: LeafTemplate, leaf: Leaf) -> bytes:
    """The members before the public key."""
    return b"".join(
        (
            _VERSION_3,
            der.integer(leaf.serial_number),
            template.algorithm_and_issuer,
            _validity(leaf.not_before, leaf.not_after),
            subject_der(leaf.identity),
        )
    )


def _extensions(template: LeafTemplate, leaf: Leaf, key_identifier: bytes) -> bytes:
    """The one member behind the public key."""
    identity = leaf.identity
    serves = identity.endpoints or identity.node_name_in_san
    carried = b""
    if leaf.capabilities:
        carried = _extension(CAPABILITIES_OID, encode_extension(leaf.capabilities))
    return der.explicit(
        3,
        der.sequence(
            _END_ENTITY,
            _CLIENT_AND_SERVER if serves else _CLIENT,
            _extension(_ALTERNATIVE_NAME, subject_alternative_name_der(identity)),
            template.authority_information,
            _extension(_SUBJECT_KEY, der.octet_string(key_identifier)),
            template.authority_key,
            _distribution_point(f"{template.crl_base_url}{leaf.shard}.crl"),
            carried,
        ),
    )


@lru_cache(maxsize=256)
def _validity(not_before: int, not_after: int) -> bytes:
    """The Validity (DER). At 2,000 certificates a second, nearly all find it made."""
    return der.sequence(
        *(der.time(datetime.fromtimestamp(moment, UTC)) for moment in (not_before, not_after))
    )


@lru_cache(maxsize=64)
def _distribution_point(url: str) -> bytes:
    """The CRLDP extension (DER), the same for the up to 7,000 certificates of a shard."""
    point = x509.DistributionPoint([x509.UniformResourceIdentifier(url)], None, None, None)
    return _fixed(x509.CRLDistributionPoints([point]))


def _key_identifier(public_key: bytes) -> bytes:
    """SHA-1 of the bits of subjectPublicKey (RFC 5280 section 4.2.1.2, method 1); BadInput where there are
    none.
    """
    # SubjectPublicKeyInfo ::= SEQUENCE { algorithm AlgorithmIdentifier, subjectPublicKey BIT STRING }
    # The bit string's first octet counts unused bits; every kind of key here has whole octets.
    _, algorithm, _ = der.read(public_key)
    _, _, behind_algorithm = der.read(public_key, algorithm)
    tag, bits, end = der.read(public_key, behind_algorithm)
    if tag != der.BIT_STRING or end != len(public_key) or public_key[bits : bits + 1] != b"\x00":
        raise BadInput("public_key: not a SubjectPublicKeyInfo", field="public_key")
    return hashlib.sha1(public_key[bits + 1 : end], usedforsecurity=False).digest()
