"""DER, as little of it as certificates need: an encoder of types, and a strict reader of tag, length and
value.

Rules:
- Encoders return complete TLVs; every argument that is a TLV already is passed through as it is.
- The reader takes one-byte tags and definite, minimal lengths only, and never looks past its end (X.690
  section 10.1).
- It leaves the meaning to its callers: contents of primitive types are not checked here.

Standard: ITU-T X.690 (DER), RFC 5280 section 4.1.2.5 for times.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, NewType

from ostiary.errors import BadInput

DER = NewType("DER", bytes)

BOOLEAN: Final = 0x01
INTEGER: Final = 0x02
BIT_STRING: Final = 0x03
OCTET_STRING: Final = 0x04
NULL: Final = 0x05
OBJECT_IDENTIFIER: Final = 0x06
ENUMERATED: Final = 0x0A
UTF8_STRING: Final = 0x0C
SEQUENCE: Final = 0x30
SET: Final = 0x31
IA5_STRING: Final = 0x16
UTC_TIME: Final = 0x17
GENERALIZED_TIME: Final = 0x18

_CONTEXT: Final = 0x80
_CONSTRUCTED: Final = 0x20
_LONG_FORM: Final = 0x80
_FIRST_GENERALIZED_YEAR: Final = 2050
_MAX_LENGTH_OCTETS: Final = 4


def tlv(tag: int, content: bytes) -> DER:
    """Encode one value with a tag below 31."""
    length = len(content)
    if length < _LONG_FORM:
        return DER(bytes((tag, length)) + content)
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return DER(bytes((tag, _LONG_FORM | len(octets))) + octets + content)


def sequence(*items: bytes) -> DER:
    """Encode SEQUENCE of complete TLVs."""
    return tlv(SEQUENCE, b"".join(items))


def sequence_of(items: Iterable[bytes]) -> DER:
    """Encode SEQUENCE OF from complete TLVs, in their order."""
    return tlv(SEQUENCE, b"".join(items))


def set_of_one(item: bytes) -> DER:
    """Encode SET OF with one member, so that no sorting is needed."""
    return tlv(SET, item)


def integer(value: int) -> DER:
    """Encode INTEGER, two's complement, shortest form."""
    magnitude = value if value >= 0 else ~value
    return tlv(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def enumerated(value: int) -> DER:
    """Encode a small, non-negative ENUMERATED."""
    return tlv(ENUMERATED, bytes((value,)))


def boolean_true() -> DER:
    """Encode BOOLEAN TRUE; FALSE is a default wherever we could write it, so DER leaves it out."""
    return DER(b"\x01\x01\xff")


def null() -> DER:
    """Encode NULL."""
    return DER(b"\x05\x00")


def octet_string(content: bytes) -> DER:
    """Encode OCTET STRING."""
    return tlv(OCTET_STRING, content)


def bit_string(content: bytes, *, unused_bits: int = 0) -> DER:
    """Encode BIT STRING; the last octet has that many unused (zero) bits."""
    return tlv(BIT_STRING, bytes((unused_bits,)) + content)


def utf8_string(text: str) -> DER:
    """Encode UTF8String."""
    return tlv(UTF8_STRING, text.encode())


def ia5_string(text: str) -> DER:
    """Encode IA5String (ASCII)."""
    return tlv(IA5_STRING, text.encode("ascii"))


def generalized_time(moment: datetime) -> DER:
    """Encode GeneralizedTime in whole seconds of UTC; `moment` is aware."""
    return tlv(GENERALIZED_TIME, moment.astimezone(UTC).strftime("%Y%m%d%H%M%SZ").encode())


def time(moment: datetime) -> DER:
    """Encode Time of RFC 5280: UTCTime before 2050, GeneralizedTime from then on."""
    moment = moment.astimezone(UTC)
    if moment.year >= _FIRST_GENERALIZED_YEAR:
        return generalized_time(moment)
    return tlv(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").encode())


def explicit(number: int, item: bytes) -> DER:
    """Encode [number] EXPLICIT around one complete TLV (or several, for an implicit constructed type)."""
    return tlv(_CONTEXT | _CONSTRUCTED | number, item)


def implicit(number: int, content: bytes) -> DER:
    """Encode [number] IMPLICIT of a primitive type from its content octets."""
    return tlv(_CONTEXT | number, content)


@lru_cache(maxsize=256)
def oid(dotted: str) -> DER:
    """Encode OBJECT IDENTIFIER from dotted decimal."""
    first, second, *arcs = (int(arc) for arc in dotted.split("."))
    return tlv(OBJECT_IDENTIFIER, b"".join(_base128(arc) for arc in (first * 40 + second, *arcs)))


def _base128(arc: int) -> bytes:
    septets = [arc & 0x7F]
    while arc := arc >> 7:
        septets.append(0x80 | (arc & 0x7F))
    return bytes(reversed(septets))


def read(data: bytes, offset: int = 0) -> tuple[int, int, int]:
    """Read one header at `offset`; return (tag, start of the content, end of the value).

    Raises BadInput for a header that is cut off, a tag above 30, a length that is indefinite or not minimal,
    and a value that ends behind the data.
    """
    if len(data) < offset + 2:
        raise BadInput("der: value is cut off")
    tag, length, start = data[offset], data[offset + 1], offset + 2
    if tag & 0x1F == 0x1F:
        raise BadInput("der: tag with more than one octet")
    if length >= _LONG_FORM:
        count = length & 0x7F
        length = int.from_bytes(data[start : start + count], "big")
        if not 1 <= count <= _MAX_LENGTH_OCTETS or length < max(_LONG_FORM, 1 << 8 * (count - 1)):
            raise BadInput("der: length is indefinite, not minimal or too large")
        start += count
    if start + length > len(data):
        raise BadInput("der: value is cut off")
    return tag, start, start + length


def expect(data: bytes, tag: int, *, what: str) -> bytes:
    """Return the content of the one TLV that `data` must be, with nothing behind it; BadInput names
    `what`.
    """
    found, start, end = read(data)
    if found != tag or end != len(data):
        raise BadInput(f"der: {what} is not one value of tag 0x{tag:02x}", field=what)
    return data[start:end]


def items(content: bytes) -> Iterator[tuple[int, DER]]:
    """Yield (tag, complete TLV) of each member of a constructed value's content."""
    offset = 0
    while offset < len(content):
        tag, _, end = read(content, offset)
        yield tag, DER(content[offset:end])
        offset = end
