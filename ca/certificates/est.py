"""EST on the wire: the form of its bodies and headers. Others decide who may enroll (ca/front).

Rules:
- Bodies are base64 of DER without PEM lines; certificates travel as a certs-only PKCS#7. We write one line,
  because strongSwan's client (5.9.8) stops at the first line break; we read any number of lines.
- HTTP Basic: the user is the token's id, the password the whole token; the two must agree. No message repeats
  any of it.
- csrattrs only advises: every key that `accept` takes will do.

Standard: RFC 7030 sections 3.2.3 (Basic), 4.1.3 (cacerts), 4.2 (simpleenroll, simplereenroll), 4.5.2
(csrattrs), with the corrections of RFC 8951 (base64 without a transfer-encoding header).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates

from ostiary import der
from ostiary.errors import BadInput, Unauthenticated
from ostiary.token import Token, parse_token

CERTS_ONLY_TYPE: Final = "application/pkcs7-mime; smime-type=certs-only"
CSR_TYPE: Final = "application/pkcs10"
CSRATTRS_TYPE: Final = "application/csrattrs"

_EC_PUBLIC_KEY: Final = "1.2.840.10045.2.1"
_P256: Final = "1.2.840.10045.3.1.7"
_ECDSA_SHA256: Final = "1.2.840.10045.4.3.2"
# id, colon and token have 96 characters (ostiary/token.py): 128 in base64.
_MAX_HEADER: Final = 512


def certs_only(certificates: Sequence[x509.Certificate]) -> bytes:
    """Return the body of an answer with certificates: base64 of a certs-only PKCS#7 (DER).

    They are a SET there (RFC 5652 section 10.2.3), so their order says nothing: clients build the chain
    themselves.
    """
    return base64.b64encode(serialize_certificates(list(certificates), Encoding.DER))


def csr_attributes() -> bytes:
    """Return the body of csrattrs: a P-256 key, a signature by ECDSA with SHA-256.

    CsrAttrs ::= SEQUENCE OF AttrOrOID; the key is Attribute { id-ecPublicKey, SET { secp256r1 } }.
    """
    key = der.sequence(der.oid(_EC_PUBLIC_KEY), der.set_of_one(der.oid(_P256)))
    return base64.b64encode(der.sequence(key, der.oid(_ECDSA_SHA256)))


def parse_authorization(header: str | None) -> Token:
    """Read the token from an Authorization header; Unauthenticated otherwise. Not checked: whether the CA
    knows the token.
    """
    if header is None:
        raise Unauthenticated(
            "authorization: missing; send HTTP Basic with token id and token", field="authorization"
        )
    scheme, _, encoded = header[:_MAX_HEADER].partition(" ")
    try:
        user, colon, password = (
            base64.b64decode(encoded.strip(), validate=True).decode("ascii").partition(":")
        )
        # RFC 9110 section 11.1: the scheme's name in any case. RFC 7617: the first colon ends the user.
        if scheme.lower() != "basic" or not colon:
            raise Unauthenticated("authorization: not HTTP Basic", field="authorization")
        token = parse_token(password)
    except ValueError as exc:  # of base64 or of ASCII
        raise Unauthenticated("authorization: not HTTP Basic", field="authorization") from exc
    except BadInput as exc:
        raise Unauthenticated(f"authorization: {exc.message}", field="authorization") from exc
    if user != token.id:
        raise Unauthenticated("authorization: the user is not the id of the token", field="authorization")
    return token
