"""What an operator's machine does to hand a secret in: read the published intake key, and encrypt to it.

The key is published in a document that the ledger key signs. A client that pins the ledger key needs to trust
neither the front nor the disk that the document came from.
"""

from __future__ import annotations

from typing import Final

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from credsvc.intake import SUITE, EnvelopePlace
from ostiary.errors import BadInput, Forbidden
from ostiary.ledger.canonical import canonical
from ostiary.secret import Secret

# Twice an RSA-4096 key in PEM, with room for its certificate; files are not what the intake is for.
MAX_SECRET_BYTES: Final = 8 * 1024


class IntakeDocument(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An X25519 key (32 raw bytes), and the ledger key's signature over application and key."""

    application: str
    intake_key: bytes
    signature: bytes


def publish_intake(application: str, intake_key: X25519PrivateKey, ledger_key: Ed25519PrivateKey) -> bytes:
    """Build the signed document (JSON)."""
    public_key = intake_key.public_key().public_bytes_raw()
    signature = ledger_key.sign(_statement(application, public_key))
    return msgspec.json.encode(
        IntakeDocument(application=application, intake_key=public_key, signature=signature)
    )


def read_intake(document: bytes, *, application: str, ledger_key: Ed25519PublicKey) -> bytes:
    """Verify the document with the pinned ledger key and return the intake key (32 raw bytes).

    BadInput where it is no such document, Forbidden where the ledger key did not sign it for this
    application.
    """
    try:
        intake = msgspec.json.decode(document, type=IntakeDocument)
    except msgspec.MsgspecError as exc:
        raise BadInput(f"not an intake document: {exc}") from exc
    # Over the application that the caller expects, not the one that the document names.
    try:
        ledger_key.verify(intake.signature, _statement(application, intake.intake_key))
    except InvalidSignature as exc:
        raise Forbidden(
            "the intake key is not signed by the pinned ledger key", rule="intake-signature"
        ) from exc
    return intake.intake_key


def encrypt_to_intake(secret: Secret, place: EnvelopePlace, intake_key: bytes) -> bytes:
    """Make an envelope (enc || ciphertext) for the intake key (X25519, 32 raw bytes)."""
    if len(secret.reveal()) > MAX_SECRET_BYTES:
        raise BadInput(f"the secret is longer than {MAX_SECRET_BYTES} bytes", field=place.field)
    public_key = X25519PublicKey.from_public_bytes(intake_key)
    return SUITE.encrypt(secret.reveal(), public_key, info=place.info())


# The ledger key signs checkpoints as well (notes that begin with the ledger's origin, C2SP signed-note); a
# JSON object with a name of its own can't be taken for one.
def _statement(application: str, intake_key: bytes) -> bytes:
    return canonical(
        {"application": application, "intake_key": intake_key.hex(), "statement": "ostiary-intake-v1"}
    )
