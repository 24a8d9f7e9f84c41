"""Sealing a keyholder's keys: once, when a service is made. A keyholder opens them and never writes them."""

from __future__ import annotations

import msgspec

from ostiary.keyholder.keys import Keys, associated_data
from ostiary.keyholder.seal import Sealer


def seal_keys(keys: Keys, sealer: Sealer, *, nonce: bytes) -> bytes:
    """Build the sealed file; `nonce` is 12 fresh random bytes."""
    return sealer.seal(msgspec.msgpack.encode(keys), associated_data=associated_data(type(keys)), nonce=nonce)
