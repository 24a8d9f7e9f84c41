"""The content of an agent's key: one JSON line, then PEM blocks; at most 32,767 bytes, the kernel's limit.

    {"agent":"...","generation":N,"not_after":EPOCH_S,"not_before":EPOCH_S,"roots":N,"v":1}
    -----BEGIN PRIVATE KEY-----      PKCS#8, unencrypted: this text lives in kernel memory only
    -----BEGIN CERTIFICATE-----      the agent's own, then the rest of its chain
    -----BEGIN CERTIFICATE-----      the last `roots` of them: the roots that the agent should trust

Rules:
- The header carries not_after, because no system call returns when a key expires.
- The blocks are separated, not interpreted: users of the key check whether it matches the certificate.
- No repr shows the private key.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, NewType

from keyutils.keyring import MAX_PAYLOAD_BYTES

# Seconds since 1970-01-01T00:00:00Z, as time.time() counts them
EpochSeconds = NewType("EpochSeconds", int)

VERSION: Final = 1
# RFC 7468 without explanatory text or headers, in lines of up to 76 characters
_BLOCK: Final = re.compile(
    rb"-----BEGIN (PRIVATE KEY|CERTIFICATE)-----\n(?:[A-Za-z0-9+/=]{1,76}\n)+-----END \1-----\n"
)
_MEMBERS: Final = {
    "agent": str,
    "generation": int,
    "not_after": int,
    "not_before": int,
    "roots": int,
    "v": int,
}


class PayloadError(ValueError):
    """The payload has another form than this release writes; the message never quotes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """An agent's key and certificates; each PEM block ends in a newline."""

    agent: str
    generation: int
    not_before: EpochSeconds
    not_after: EpochSeconds
    private_key_pem: bytes = field(repr=False)
    chain_pem: tuple[bytes, ...]
    roots_pem: tuple[bytes, ...]

    @property
    def certificate_pem(self) -> bytes:
        """The agent's own certificate."""
        return self.chain_pem[0]


def encode(payload: Payload) -> bytes:
    """Write the text; raise PayloadError if a field is not one PEM block, or the whole is too long."""
    header = {
        "agent": payload.agent,
        "generation": payload.generation,
        "not_after": payload.not_after,
        "not_before": payload.not_before,
        "roots": len(payload.roots_pem),
        "v": VERSION,
    }
    line = json.dumps(header, separators=(",", ":")).encode() + b"\n"
    text = b"".join((line, payload.private_key_pem, *payload.chain_pem, *payload.roots_pem))
    # Reading it back is the check: a block with a second block in it would be read as another chain.
    if decode(text) != payload:
        raise PayloadError("key and certificates must be one PEM block each, ending in a newline")
    return text


def decode(text: bytes | bytearray) -> Payload:
    """Read the text; raise PayloadError for anything that `encode` does not write."""
    if len(text) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"the payload has {len(text)} bytes; a key holds at most {MAX_PAYLOAD_BYTES}")
    line, _, rest = bytes(text).partition(b"\n")
    header = _parse_header(line)
    key, certificates = _split(rest)
    own = len(certificates) - header["roots"]
    if own < 1 or header["roots"] < 0:
        raise PayloadError("the payload has no certificate for the agent itself")
    return Payload(
        agent=header["agent"],
        generation=header["generation"],
        not_before=header["not_before"],
        not_after=header["not_after"],
        private_key_pem=key,
        chain_pem=tuple(certificates[:own]),
        roots_pem=tuple(certificates[own:]),
    )


def _parse_header(line: bytes) -> dict[str, Any]:
    try:
        header = json.loads(line)
    except ValueError:
        raise PayloadError("the payload's first line is not JSON") from None
    if not isinstance(header, dict) or header.keys() != _MEMBERS.keys():
        raise PayloadError(f"the payload's header has other members than {', '.join(_MEMBERS)}")
    for name, kind in _MEMBERS.items():
        # Not isinstance: true is an int in Python.
        if type(header[name]) is not kind:
            raise PayloadError(f"the payload's member {name} is not of type {kind.__name__}")
    if header["v"] != VERSION:
        raise PayloadError(f"the payload has version {header['v']}, expected {VERSION}")
    return header


def _split(rest: bytes) -> tuple[bytes, list[bytes]]:
    """Return the private key and the certificates; every byte belongs to one of them."""
    found = list(_BLOCK.finditer(rest))
    kinds = [match[1] for match in found]
    if not found or kinds != [b"PRIVATE KEY", *[b"CERTIFICATE"] * (len(found) - 1)]:
        raise PayloadError("the payload is not one private key followed by certificates")
    if sum(len(match[0]) for match in found) != len(rest):
        raise PayloadError("the payload has bytes between its PEM blocks")
    return found[0][0], [match[0] for match in found[1:]]
