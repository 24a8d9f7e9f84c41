"""What an agent's key holds: one JSON line, then PEM blocks (text, at most 32,767 bytes, the kernel's limit).

    {"agent":"...","generation":N,"not_after":EPOCH_S,"not_before":EPOCH_S,"roots":N,"v":1}
    -----BEGIN PRIVATE KEY-----      PKCS#8, unencrypted: this text lives in kernel memory only
    -----BEGIN CERTIFICATE-----      the agent's own, then the rest of its chain
    -----BEGIN CERTIFICATE-----      last, `roots` of them: whom the agent should trust

Rules:
- not_after stands in the header because no system call tells when a key expires.
- The blocks are framed, not understood: whether key and certificate match is for whoever uses them.
- The private key never shows in a repr.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any, Final, NewType

from keyutils.keyring import MAX_PAYLOAD_BYTES

EpochSeconds = NewType("EpochSeconds", int)

VERSION: Final = 1
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
    """The payload is not what this release writes; the message never quotes it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Payload:
    """An agent's key and certificates; times are integer seconds since the epoch, PEM blocks end in a
    newline.
    """

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
    """Write the text; raise PayloadError where a block is no single PEM block or all is too long."""
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
    if decode(text) != payload:
        raise PayloadError("the key or a certificate is not one PEM block each, ending in a newline")
    return text


def decode(text: bytes | bytearray) -> Payload:
    """Read the text; raise PayloadError for whatever `encode` doesn't write."""
    if len(text) > MAX_PAYLOAD_BYTES:
        raise PayloadError(f"the payload has {len(text)} bytes, at most {MAX_PAYLOAD_BYTES} fit into a key")
    line, _, rest = bytes(text).partition(b"\n")
    header = _parse_header(line)
    key, certificates = _split(rest)
    own = len(certificates) - header["roots"]
    if own < 1 or header["roots"] < 0:
        raise PayloadError("the payload has no certificate of the agent's own")
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
        if type(header[name]) is not kind:
            raise PayloadError(f"the payload's member {name} is no {kind.__name__}")
    if header["v"] != VERSION:
        raise PayloadError(f"the payload has version {header['v']}, this release reads {VERSION}")
    return header


def _split(rest: bytes) -> tuple[bytes, list[bytes]]:
    """Return the private key and the certificates; every byte belongs to one of them."""
    found = list(_BLOCK.finditer(rest))
    kinds = [match[1] for match in found]
    if not found or kinds != [b"PRIVATE KEY", *[b"CERTIFICATE"] * (len(found) - 1)]:
        raise PayloadError("the payload is not one private key followed by certificates")
    if sum(len(match[0]) for match in found) != len(rest):
        raise PayloadError("the payload has something between its PEM blocks")
    return found[0][0], [match[0] for match in found[1:]]
