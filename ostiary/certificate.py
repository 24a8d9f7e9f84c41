"""Assembling certificates and taking them apart, where another process makes the signature.

Rules:
- The TBSCertificate is what gets recorded and signed; a certificate is `assemble(tbs, algorithm, signature)`.
- `parse_tbs` lets pyca/cryptography read a TBSCertificate by adding a dummy signature (about 10 µs).
- A serial number has one spelling everywhere: lower-case hex, whole octets.
- Keys that a certificate of ours may certify: P-256, P-384, Ed25519, RSA of 2048 to 4096 bits with exponent
  65537.

Standards: RFC 5280 section 4.1, RFC 5758 (ECDSA), RFC 8410 (Ed25519), RFC 4055 (RSA).
"""

from __future__ import annotations

import hashlib
import re
from typing import Final, NewType, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from ostiary import der
from ostiary.errors import BadInput

# What `serial_hex` prints. The int of X.509 is always called `serial_number`, this text `serial`; JSON
# contracts keep the member names they were published with.
SerialHex = NewType("SerialHex", str)
PublicKey: TypeAlias = ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey | rsa.RSAPublicKey

# Parameters are absent for ECDSA (RFC 5758 section 3.2) and Ed25519 (RFC 8410 section 3), and NULL for RSA
# (RFC 4055 section 5). They are part of what is signed, so "absent" and "NULL" are two certificates.
ECDSA_SHA256: Final = der.sequence(der.oid("1.2.840.10045.4.3.2"))
ECDSA_SHA384: Final = der.sequence(der.oid("1.2.840.10045.4.3.3"))
ED25519: Final = der.sequence(der.oid("1.3.101.112"))
RSA_SHA256: Final = der.sequence(der.oid("1.2.840.113549.1.1.11"), der.null())

DIGITAL_SIGNATURE_ONLY: Final = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)
MIN_RSA_BITS: Final = 2048
# Every peer pays for the verification of a long key: Go bounded RSA keys in chains for that reason
# (CVE-2023-29409, 8192 bits). Nobody needs more than 4096.
MAX_RSA_BITS: Final = 4096
# The modulus bounds nothing if the exponent may be as long as it: verification costs one squaring a bit.
RSA_EXPONENT: Final = 65537

# At most 20 octets (RFC 5280 section 4.1.2.2).
_SERIAL: Final = re.compile(r"(?:[0-9a-f]{2}){1,20}")
# pyca/cryptography parses the signature as a BIT STRING and looks into it only when asked to verify.
_DUMMY_SIGNATURE: Final = b"\x00"


def assemble(tbs: bytes, signature_algorithm_der: bytes, signature: bytes) -> der.DER:
    """Build a certificate, CRL or CSR from its to-be-signed bytes, DER: SIGNED{} of X.509, whose three fields
    RFC 5280 sections 4.1.1 and 5.1.1 and RFC 2986 section 4.2 describe.
    """
    return der.sequence(tbs, signature_algorithm_der, der.bit_string(signature))


def parse_tbs(tbs: bytes) -> x509.Certificate:
    """Parse a DER TBSCertificate; the result's signature is a dummy. Raises BadInput; checks no meaning."""
    try:
        return x509.load_der_x509_certificate(assemble(tbs, algorithm_of_tbs(tbs), _DUMMY_SIGNATURE))
    except (ValueError, x509.InvalidVersion) as exc:
        raise BadInput("tbs_certificate: not a DER TBSCertificate", field="tbs_certificate") from exc


def algorithm_of_tbs(tbs: bytes) -> der.DER:
    """Return the AlgorithmIdentifier inside a DER TBSCertificate (third member) or TBSCertList (second)."""
    # It is the first SEQUENCE in both (RFC 5280 sections 4.1 and 5.1):
    #   TBSCertificate  version [0] EXPLICIT, serialNumber INTEGER, signature AlgorithmIdentifier, ...
    #   TBSCertList     version INTEGER OPTIONAL, signature AlgorithmIdentifier, ...
    for tag, item in der.items(der.expect(tbs, der.SEQUENCE, what="tbs_certificate")):
        if tag == der.SEQUENCE:
            return item
    raise BadInput("tbs_certificate: no signature algorithm", field="tbs_certificate")


def signature_algorithm(public_key: PublicKey) -> der.DER:
    """Return the AlgorithmIdentifier that the owner of that key signs with in this product."""
    match public_key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1()):
            return ECDSA_SHA256
        case ec.EllipticCurvePublicKey(curve=ec.SECP384R1()):
            return ECDSA_SHA384
        case ed25519.Ed25519PublicKey():
            return ED25519
        case rsa.RSAPublicKey():
            return RSA_SHA256
        case _:
            raise BadInput("public key: not P-256, P-384, Ed25519 or RSA", field="public_key")


def accept_public_key(public_key: object) -> PublicKey:
    """Return the key, typed, if a certificate of ours may certify it; else BadInput(field=public_key)."""
    match public_key:
        case ec.EllipticCurvePublicKey(curve=ec.SECP256R1() | ec.SECP384R1()) | ed25519.Ed25519PublicKey():
            return public_key
        case rsa.RSAPublicKey() if (
            MIN_RSA_BITS <= public_key.key_size <= MAX_RSA_BITS
            and public_key.public_numbers().e == RSA_EXPONENT
        ):
            return public_key
        case _:
            raise BadInput(
                "public key: wanted P-256, P-384, Ed25519, or RSA of 2048 to 4096 bits with exponent 65537",
                field="public_key",
            )


def spki_der(public_key: PublicKey) -> bytes:
    """Return SubjectPublicKeyInfo, DER."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_digest(holder: x509.Certificate | x509.CertificateSigningRequest) -> str:
    """Return the SHA-256 of the holder's SubjectPublicKeyInfo (DER) in lower-case hex."""
    encoded = holder.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(encoded).hexdigest()


def serial_hex(serial_number: int) -> SerialHex:
    """Print a positive serial number: lower-case hex of its shortest whole octets."""
    if serial_number <= 0:
        raise BadInput("serial_number: not positive", field="serial_number")
    return SerialHex(serial_number.to_bytes((serial_number.bit_length() + 7) // 8, "big").hex())


def parse_serial_hex(text: str) -> int:
    """Read what `serial_hex` prints, and nothing else; BadInput names serial_number."""
    # A leading zero octet would be a second spelling of the same number, and registries are keyed by the
    # text.
    if not _SERIAL.fullmatch(text) or text.startswith("00"):
        raise BadInput(
            f"serial_number: {text[:64]!r} is not lower-case hex of 1 to 20 octets without leading zeros",
            field="serial_number",
        )
    return int(text, 16)
