"""From the bytes of a certification request to a key that may be certified: CSRBytes -> AcceptedCSR.

Rules:
- A request proves possession of a key, and nothing else is taken from it: names come from the token or the
  lineage (docs/adr/0012).
- Names that it does carry must not contradict the identity it is used for; challengePassword and other
  attributes are ignored.
- Weak or unusual keys and signatures are refused with a message that names the accepted ones.

Standard: RFC 2986 (PKCS#10), RFC 7030 section 4.2.1 (base64 of DER, no PEM lines), RFC 5967 for its media
type.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass
from typing import Final, NewType

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from ostiary.certificate import PublicKey, accept_public_key, spki_der
from ostiary.errors import BadInput
from ostiary.identity import Identity

CSRBytes = NewType("CSRBytes", bytes)

# A request with an RSA-4096 key and sixteen endpoints has 3 kB; parsing an endless one would cost the front
# time.
MAX_CSR_BYTES: Final = 16_384
_DER_SEQUENCE: Final = 0x30
# Ed25519 hashes inside the signature (RFC 8032), so its requests name no hash. SHA-1 is out: a chosen-prefix
# collision would let one proof of possession stand for two keys.
_HASHES: Final = (hashes.SHA256, hashes.SHA384, hashes.SHA512, type(None))


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedCSR:
    """A request whose signature and key were checked; `spki_der` is the key as the certificate will carry
    it.
    """

    csr_der: bytes
    request: x509.CertificateSigningRequest
    public_key: PublicKey
    spki_der: bytes

    @property
    def spki_digest(self) -> str:
        """SHA-256 of SubjectPublicKeyInfo, lower-case hex."""
        return hashlib.sha256(self.spki_der).hexdigest()


def accept(body: CSRBytes) -> AcceptedCSR:
    """Check a request: DER, or base64 of it as EST sends. BadInput names `csr` or `public_key`.

    1. Its size and base64 wrapping are right.
    2. It parses as PKCS#10.
    3. Its key is of an accepted kind and size.
    4. Its signature uses a sound hash and verifies with that key.
    Not checked: the names in it (`check_names`), and whether the key was used before (the recorder knows).
    """
    # 1.
    encoded = _unwrapped(body)
    try:
        # 2. and 3. pyca/cryptography parses lazily: everything that is used later is touched inside this
        #    `try`.
        request = x509.load_der_x509_csr(encoded)
        public_key = accept_public_key(request.public_key())
        sound_hash = isinstance(request.signature_hash_algorithm, _HASHES)
        signed = request.is_signature_valid
        request.subject  # noqa: B018 -- parsed on first use
    except (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion) as exc:
        # TypeError is pyca's for an attribute that is a BIT STRING.
        raise BadInput(
            "csr: not a PKCS#10 request in DER with a key of type P-256, P-384, Ed25519 or RSA", field="csr"
        ) from exc
    # 4.
    if not sound_hash:
        raise BadInput("csr: signed with a weak hash, wanted SHA-256, SHA-384 or SHA-512", field="csr")
    if not signed:
        raise BadInput("csr: the signature does not verify with the key in the request", field="csr")
    return AcceptedCSR(csr_der=encoded, request=request, public_key=public_key, spki_der=spki_der(public_key))


def _unwrapped(body: bytes) -> bytes:
    if len(body) > MAX_CSR_BYTES:
        raise BadInput(f"csr: {len(body)} bytes, at most {MAX_CSR_BYTES}", field="csr")
    # base64 of DER begins with "M" (0x4d), DER with 0x30: the first byte tells them apart.
    if body[:1] == bytes((_DER_SEQUENCE,)):
        return body
    if body.lstrip().startswith(b"-----BEGIN"):
        raise BadInput("csr: is PEM; send base64 of DER without BEGIN and END lines (RFC 7030)", field="csr")
    try:
        # Lines of any length: RFC 8951 section 3.1 has receivers ignore line breaks.
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error as exc:
        raise BadInput("csr: neither DER nor base64 of DER", field="csr") from exc


def check_names(accepted: AcceptedCSR, identity: Identity) -> None:
    """Check that the request asks for no other name than the identity's; BadInput names the field.

    Subject: DC, O, OU and UID, where present, are the identity's; CN may be the agent, its host or its node.
    subjectAltName: only names that the certificate will carry. basicConstraints: not a CA.
    """
    _check_subject(accepted.request.subject, identity)
    try:
        extensions = accepted.request.extensions
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        raise BadInput(
            "csr: the requested extensions are malformed, or one occurs twice", field="csr"
        ) from exc
    for extension in extensions:
        match extension.value:
            case x509.SubjectAlternativeName() as names:
                _check_alternative_names(names, identity)
            case x509.BasicConstraints(ca=True):
                raise BadInput("csr: it asks for a CA certificate", field="csr")
            case _:
                # Key usages and the like are the profile's to set. Many clients write them into every
                # request, so they are no reason to refuse one.
                pass


def _check_subject(subject: x509.Name, identity: Identity) -> None:
    wanted: dict[x509.ObjectIdentifier, tuple[str, list[str]]] = {
        NameOID.DOMAIN_COMPONENT: ("DC", identity.application.split(".")),
        NameOID.ORGANIZATION_NAME: ("O", [identity.subsystem]),
        NameOID.ORGANIZATIONAL_UNIT_NAME: ("OU", [identity.node]),
        NameOID.USER_ID: ("UID", [identity.agent]),
        NameOID.COMMON_NAME: ("CN", [identity.agent, identity.host, identity.node]),
    }
    for attribute in subject:
        short, values = wanted.get(attribute.oid, (attribute.oid.dotted_string, []))
        if attribute.value not in values:
            raise BadInput(
                f"csr: the certificate will not carry subject {short} {str(attribute.value)[:128]!r}; "
                "leave the subject empty, or ask for the identity's own names",
                field=f"subject.{short}",
            )


def _check_alternative_names(names: x509.SubjectAlternativeName, identity: Identity) -> None:
    carried = {("dns", identity.host), *(("uri", str(endpoint)) for endpoint in identity.endpoints)}
    if identity.node_name_in_san:
        carried.add(("dns", identity.node))
    for name in names:
        kind = {x509.DNSName: "dns", x509.UniformResourceIdentifier: "uri"}.get(type(name), "other")
        if (kind, name.value) not in carried:
            raise BadInput(
                f"csr: the certificate will not carry subjectAltName {str(name.value)[:256]!r}",
                field="subject_alternative_name",
            )
