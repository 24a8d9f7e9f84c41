"""The keys that a credentials service's keyholder holds; sealed together (`ostiary.keyholder.keys`)."""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric import x25519
from cryptography.hazmat.primitives.serialization import load_der_private_key

from ostiary.errors import Misconfigured


class CredentialKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A credentials service's keys, and the public key by which modules are approved (Ed25519, 32
    raw bytes).
    """

    application: str
    approver_key: bytes
    intake_key: bytes
    ledger_key: bytes

    # msgspec's own would print the keys, in a traceback too.
    def __repr__(self) -> str:
        return f"CredentialKeys({self.application!r})"


def load_intake_key(pkcs8: bytes) -> x25519.X25519PrivateKey:
    """Load the intake's key, X25519: the KEM of its HPKE suite (RFC 9180 section 7.1)."""
    key = load_der_private_key(pkcs8, password=None)
    if isinstance(key, x25519.X25519PrivateKey):
        return key
    raise Misconfigured("the intake key is not X25519")
