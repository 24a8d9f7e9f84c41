"""The published intake key: a document that the ledger key signs. A client that pins the ledger key needs to
trust neither the front nor the disk that the document came from.
"""

from __future__ import annotations

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from ostiary.errors import BadInput, Forbidden
from ostiary.ledger.canonical import canonical


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


# The ledger key signs checkpoints as well (notes that begin with the ledger's origin, C2SP signed-note); a
# JSON object with a name of its own can't be taken for one.
def _statement(application: str, intake_key: bytes) -> bytes:
    return canonical(
        {"application": application, "intake_key": intake_key.hex(), "statement": "ostiary-intake-v1"}
    )
