"""The intake: how a secret travels from an operator's machine to the keyholder while nobody between them can
read it.

Rules:
- HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; one envelope for each
  field.
- `info` binds the envelope to application, credential, module and field: an envelope that is moved to another
  credential, or to another field of the same one, does not open.

What it does not give: freshness, and the sender's name. An envelope may be put again; that makes a new
version with the same secret, which the ledger shows. Base mode does not authenticate the sender (RFC 9180
section 9.1): who may put is the admin socket's to check.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ostiary.errors import BadInput
from ostiary.ledger.canonical import canonical
from ostiary.secret import Secret

# Single-shot: encapsulated key || ciphertext || tag; 32 + n + 16 bytes.
SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class EnvelopePlace(msgspec.Struct, frozen=True, kw_only=True):
    """The credential and field that an envelope is made for."""

    application: str
    credential: str
    module: str
    field: str

    def info(self) -> bytes:
        """HPKE's `info`: canonical JSON, so that two places never have one text."""
        return canonical({"intake": "ostiary-v1", **msgspec.to_builtins(self)})


def open_envelope(envelope: bytes, place: EnvelopePlace, intake_key: X25519PrivateKey) -> Secret:
    """Open an envelope; BadInput where it was made for another place or key."""
    try:
        return Secret(SUITE.decrypt(envelope, intake_key, info=place.info()))
    # What is too short, and a point of small order (RFC 7748 section 6.1), come as InvalidTag as well.
    except (InvalidTag, ValueError) as exc:
        message = (
            f"the envelope of '{place.field}' was not made for this credential and this service's intake key"
        )
        raise BadInput(message, field=place.field) from exc
