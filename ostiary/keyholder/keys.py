"""The keys that a keyholder holds, as one sealed file per service.

Rules:
- What the guards need to know (the issuing certificate with its application and node domains, the URLs, the
  approver's public key) is sealed together with the keys: whoever can write the disk cannot widen what a key
  may sign.
- The associated data names application and service; a file of one service does not open as another's.
- Private keys are PKCS#8 DER inside the blob, and cryptography's key objects outside; never a text.
"""

from __future__ import annotations

from typing import Protocol, TypeVar

import msgspec
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import load_der_private_key

from ostiary.errors import Misconfigured
from ostiary.keyholder.seal import Sealer

KEYS_PURPOSE = "keyholder keys"


class Keys(Protocol):
    """What every keyholder has: the application that it serves, and its ledger's key (PKCS#8 DER)."""

    @property
    def application(self) -> str: ...
    @property
    def ledger_key(self) -> bytes: ...


KeysT = TypeVar("KeysT", bound=Keys)


def open_keys(blob: bytes, kind: type[KeysT], sealer: Sealer) -> KeysT:
    """Open a sealed file; Misconfigured where it is another service's, or was sealed under another
    key-encryption key.
    """
    return msgspec.msgpack.decode(sealer.open(blob, associated_data=associated_data(kind)), type=kind)


# The name of the class is the service's (CAKeys, CredentialKeys): to rename one is to lose its files.
def associated_data(kind: type[Keys]) -> bytes:
    """What a sealed file is bound to."""
    return b"ostiary keyholder keys v1 " + kind.__name__.encode()


def load_ledger_key(pkcs8: bytes) -> ed25519.Ed25519PrivateKey:
    """Read the key (PKCS#8 DER); Misconfigured where it is no Ed25519 key."""
    key = load_der_private_key(pkcs8, password=None)
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return key
    raise Misconfigured("the ledger key is not Ed25519")
