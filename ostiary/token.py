r"""Enrollment and claim tokens: `ost_<id>_<secret><checksum>`, one-time secrets that a person can paste.

    id         80 random bits, 16 characters; public: names the token's row, stands in lists and logs
    secret    256 random bits, 52 characters; shown once
    checksum   30 bits, 6 characters: the low 30 bits of CRC-32 over the ASCII text `ost_<id>_<secret>`

Rules:
- The alphabet is lower-case base32 (RFC 4648 section 6) without padding: no case to lose, one spelling per
  value.
- The checksum catches typing errors before any table is read; it proves nothing.
- The store keeps `digest`, SHA-256 of the secret's 32 octets: 256 random bits need neither salt nor a slow
  hash.
- No message repeats any part of a text that might be a token.

For secret scanners: `\bost_[a-z2-7]{16}_[a-z2-7]{58}\b` (docs/adr/0004-token-format.md).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import zlib
from dataclasses import dataclass
from typing import Final, NewType

from ostiary.errors import BadInput
from ostiary.secret import Secret

TokenID = NewType("TokenID", str)

ID_BYTES: Final = 10
SECRET_BYTES: Final = 32
RANDOM_BYTES: Final = ID_BYTES + SECRET_BYTES
SCANNER_PATTERN: Final = r"\bost_[a-z2-7]{16}_[a-z2-7]{58}\b"

_ID: Final = re.compile(r"[a-z2-7]{16}")
_TOKEN: Final = re.compile(r"ost_([a-z2-7]{16})_([a-z2-7]{52})([a-z2-7]{6})")
# Six characters of five bits. GitHub's tokens end in six base62 characters of a CRC-32 for the same purpose.
_CHECKSUM_BITS: Final = 30
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz234567"


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A token as whoever mints or redeems it holds it; its repr shows the id only."""

    id: TokenID
    secret: Secret

    @property
    def digest(self) -> bytes:
        """SHA-256 of the secret (32 octets): what the store keeps and the recorder compares."""
        return hashlib.sha256(self.secret.reveal()).digest()

    def reveal(self) -> str:
        """Return the token's text, which is shown once."""
        body = f"ost_{self.id}_{_encode(self.secret.reveal())}"
        return body + _checksum(body)


def mint(random_bytes: bytes) -> Token:
    """Make a token from RANDOM_BYTES (42) octets of the system's random generator: id, then secret."""
    if len(random_bytes) != RANDOM_BYTES:
        raise AssertionError(f"a token needs {RANDOM_BYTES} random octets")
    return Token(id=TokenID(_encode(random_bytes[:ID_BYTES])), secret=Secret(random_bytes[ID_BYTES:]))


def parse_token(text: str) -> Token:
    """Parse a token's text; BadInput names `token` and repeats nothing of it. Not checked: its row."""
    match = _TOKEN.fullmatch(text)
    if match is None:
        raise BadInput("token: not of the form ost_<id>_<secret><checksum>", field="token")
    token_id, secret, checksum = match.groups()
    if _checksum(f"ost_{token_id}_{secret}") != checksum:
        raise BadInput("token: checksum mismatch; a character is wrong or missing", field="token")
    token = Token(id=TokenID(token_id), secret=Secret(_decode(secret)))
    # 52 characters carry 260 bits, the secret has 256: base64.b32decode ignores the last four, so sixteen
    # spellings would mean one secret.
    if token.reveal() != text:
        raise BadInput("token: the last character of the secret is not canonical", field="token")
    return token


def parse_token_id(text: str) -> TokenID:
    """Parse a token's id (16 characters); BadInput names `token_id` and does not repeat the text."""
    # The text may be a whole token, pasted by mistake.
    if not _ID.fullmatch(text):
        raise BadInput("token_id: not 16 characters of a-z and 2-7", field="token_id")
    return TokenID(text)


def _encode(data: bytes) -> str:
    return base64.b32encode(data).decode("ascii").rstrip("=").lower()


def _decode(text: str) -> bytes:
    try:
        return base64.b32decode(text.upper() + "=" * (-len(text) % 8))
    except binascii.Error as exc:
        raise BadInput("token: secret is not base32", field="token") from exc


def _checksum(body: str) -> str:
    value = zlib.crc32(body.encode("ascii")) & ((1 << _CHECKSUM_BITS) - 1)
    return "".join(_ALPHABET[(value >> shift) & 31] for shift in range(_CHECKSUM_BITS - 5, -1, -5))
