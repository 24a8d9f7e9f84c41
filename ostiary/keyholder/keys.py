"""The keys that a keyholder holds, as one sealed file per service.

Rules:
- What the guards need to know (the issuing certificate with its application and node domains, the URLs, the approver's public
  key) is sealed together with the keys: whoever can write the disk cannot widen what a key may sign.
- The associated data names application and service; a file of one service does not open as another's.
- Private keys are PKCS#8 DER inside the blob, and cryptography's key objects outside; never a text.
"""

from __future__ import annotations

from typing import TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, x25519
from cryptography.hazmat.primitives.serialization import load_der_private_key

from ostiary.errors import Misconfigured
from ostiary.keyholder.seal import Sealer

KEYS_PURPOSE = "keyholder keys"


class CAKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A CA's keys and what its guard is made of."""

    application: str
    issuing_certificate: bytes
    ocsp_url: str
    ca_issuers_url: str
    crl_base_url: str
    issuing_key: bytes
    ledger_key: bytes

    def __repr__(self) -> str:
        return f"CAKeys({self.application!r})"


class CredentialKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A credentials service's keys, and the public key by which modules are approved (Ed25519, 32 raw bytes)."""

    application: str
    approver_key: bytes
    intake_key: bytes
    ledger_key: bytes

    def __repr__(self) -> str:
        return f"CredentialKeys({self.application!r})"


KeysT = TypeVar("KeysT", CAKeys, CredentialKeys)
IssuingKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def seal_keys(keys: CAKeys | CredentialKeys, sealer: Sealer, *, nonce: bytes) -> bytes:
    """Build the sealed file; `nonce` is 12 fresh random bytes."""
    return sealer.seal(
        msgspec.msgpack.encode(keys), associated_data=_associated_data(type(keys)), nonce=nonce
    )


def open_keys(blob: bytes, kind: type[KeysT], sealer: Sealer) -> KeysT:
    """Open a sealed file; raises Misconfigured where it isn't this service's, or the key-encryption key is another one."""
    return msgspec.msgpack.decode(sealer.open(blob, associated_data=_associated_data(kind)), type=kind)


def _associated_data(kind: type[CAKeys | CredentialKeys]) -> bytes:
    return b"ostiary keyholder keys v1 " + kind.__name__.encode()


def load_issuing_key(pkcs8: bytes) -> IssuingKey:
    """P-256, P-384 or Ed25519, the key types whose signatures can be deterministic."""
    key = load_der_private_key(pkcs8, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise Misconfigured("the issuing key is neither ECDSA nor Ed25519: make the CA anew")


def load_ledger_key(pkcs8: bytes) -> ed25519.Ed25519PrivateKey:
    """Ed25519."""
    key = load_der_private_key(pkcs8, password=None)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise Misconfigured("the ledger key is not Ed25519")


def load_intake_key(pkcs8: bytes) -> x25519.X25519PrivateKey:
    """X25519 (the KEM of the intake's HPKE suite)."""
    key = load_der_private_key(pkcs8, password=None)
    if isinstance(key, x25519.X25519PrivateKey):
        return key
    raise Misconfigured("the intake key is not X25519")
