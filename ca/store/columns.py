"""Column types that keep an identifier in the octets that it stands for, half of its text.

    SerialNumber   lower-case hex as `ostiary.certificate.serial_hex` prints it   -> its 1 to 20 octets
    AgentUUID      a UUID as RFC 9562 section 4 prints it, in lower case          -> its 16 octets

Rules:
- Rows have the text, as before; only the store has the octets.
- Both are exact for any text. Another spelling (a front that was broken into may name anything) is kept as it
  is, in UTF-8 behind 20 zero octets: no serial number begins with one, and no UUID is as long.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import Dialect, LargeBinary
from sqlalchemy.types import TypeDecorator

_SERIAL_OCTETS: Final = 20  # RFC 5280 section 4.1.2.2
_AS_IT_IS: Final = bytes(20)


def pack_serial(text: str) -> bytes:
    """The octets of a serial number."""
    octets = _octets(text)
    if 0 < len(octets) <= _SERIAL_OCTETS and octets[0] and octets.hex() == text:
        return octets
    return _AS_IT_IS + text.encode()


def unpack_serial(packed: bytes) -> str:
    """The text of `pack_serial`."""
    return packed[len(_AS_IT_IS) :].decode() if packed.startswith(_AS_IT_IS) else packed.hex()


def pack_uuid(text: str) -> bytes:
    """The octets of a UUID."""
    octets = _octets(text.replace("-", ""))
    if len(octets) == 16 and _printed(octets) == text:
        return octets
    return _AS_IT_IS + text.encode()


def unpack_uuid(packed: bytes) -> str:
    """The text of `pack_uuid`."""
    return _printed(packed) if len(packed) == 16 else packed[len(_AS_IT_IS) :].decode()


def _octets(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def _printed(octets: bytes) -> str:
    digits = octets.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


class SerialNumber(TypeDecorator[str]):
    """A serial number."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else pack_serial(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else unpack_serial(value)


class AgentUUID(TypeDecorator[str]):
    """An agent's UUID."""

    impl = LargeBinary
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> bytes | None:  # noqa: ARG002
        return None if value is None else pack_uuid(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else unpack_uuid(value)
