"""The intake: how a secret travels from an operator's machine to the keyholder without anybody between
reading it.

Rules:
- HPKE base mode (RFC 9180): DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM; one envelope per field.
- `info` binds the envelope to application, credential, module and field: an envelope that is moved to another
  credential, or to another field of the same one, does not open.
- The intake's public key is published in a document that the ledger key signs; a client that pins the ledger
  key needs to trust neither the front nor the disk it came from.

What it does not give: freshness. An envelope may be put again; that makes a new version with the same secret,
in the ledger.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import AEAD, KDF, KEM, Suite

from ostiary.errors import BadInput, Forbidden
from ostiary.ledger.canonical import canonical
from ostiary.secret import Secret

_SUITE = Suite(KEM.X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)
MAX_SECRET_BYTES = 8 * 1024
"""Larger than an RSA-4096 key in PEM; an intake of files is not meant."""


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where a secret belongs."""

    application: str
    credential: str
    module: str
    field: str

    def info(self) -> bytes:
        """HPKE's `info`."""
        return canonical({"intake": "ostiary-v1", **msgspec.to_builtins(self)})


class IntakeDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The published key: X25519, 32 raw bytes, and the ledger key's signature over application and key (JSON:
    base64).
    """

    application: str
    intake_key: bytes
    signature: bytes


def encrypt_to_intake(secret: Secret, place: Place, intake_key: bytes) -> bytes:
    """Make an envelope (enc || ciphertext) for the intake key (X25519, 32 raw bytes)."""
    if len(secret.reveal()) > MAX_SECRET_BYTES:
        raise BadInput(f"the secret is longer than {MAX_SECRET_BYTES} bytes", field=place.field)
    public_key = X25519PublicKey.from_public_bytes(intake_key)
    return _SUITE.encrypt(secret.reveal(), public_key, info=place.info())


def open_envelope(envelope: bytes, place: Place, intake_key: X25519PrivateKey) -> Secret:
    """Open an envelope; BadInput where it was made for another place or key."""
    try:
        return Secret(_SUITE.decrypt(envelope, intake_key, info=place.info()))
    except (InvalidTag, ValueError) as exc:
        message = (
            f"the envelope of '{place.field}' was not made for this credential and this service's intake key"
        )
        raise BadInput(message, field=place.field) from exc


def publish_intake(application: str, intake_key: X25519PrivateKey, ledger_key: Ed25519PrivateKey) -> bytes:
    """Build the signed document (JSON)."""
    public_key = intake_key.public_key().public_bytes_raw()
    signature = ledger_key.sign(_statement(application, public_key))
    return msgspec.json.encode(
        IntakeDocument(application=application, intake_key=public_key, signature=signature)
    )


def read_intake(document: bytes, *, application: str, ledger_key: Ed25519PublicKey) -> bytes:
    """Verify the document with the pinned ledger key and return the intake key (32 raw bytes).

    Raises BadInput for what is no such document, Forbidden for one that the ledger key did not sign for this
    application.
    """
    try:
        intake = msgspec.json.decode(document, type=IntakeDocument)
    except msgspec.MsgspecError as exc:
        raise BadInput(f"not an intake document: {exc}") from exc
    try:
        ledger_key.verify(intake.signature, _statement(application, intake.intake_key))
    except InvalidSignature as exc:
        raise Forbidden(
            "the intake key is not signed by the pinned ledger key", rule="intake-signature"
        ) from exc
    return intake.intake_key


def _statement(application: str, intake_key: bytes) -> bytes:
    return canonical(
        {"application": application, "intake_key": intake_key.hex(), "statement": "ostiary-intake-v1"}
    )
