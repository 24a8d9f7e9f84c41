"""The keys that a CA's keyholder holds, and what its guard is made of; sealed together
(`ostiary.keyholder.keys`), so that nobody can pair a key with another guard.
"""

from __future__ import annotations

import msgspec
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import load_der_private_key

from ostiary.errors import Misconfigured

IssuingKey = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


class CAKeys(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A CA's keys and what its guard is made of."""

    application: str
    issuing_certificate: bytes
    ocsp_url: str
    ca_issuers_url: str
    crl_base_url: str
    issuing_key: bytes
    ledger_key: bytes

    # msgspec's own repr would print the keys.
    def __repr__(self) -> str:
        return f"CAKeys({self.application!r})"


def load_issuing_key(pkcs8: bytes) -> IssuingKey:
    """Load a key of type P-256, P-384 or Ed25519, the types that can sign deterministically; RSA-PSS
    can't.
    """
    key = load_der_private_key(pkcs8, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey):
        return key
    raise Misconfigured("the issuing key is neither ECDSA nor Ed25519: make a new CA")
