"""DER, as little of it as certificates need: an encoder, and a strict reader of tag, length and value.

Rules:
- Encoders return complete TLVs; an argument that already is a TLV passes through unchanged.
- The reader accepts one-octet tags and definite, minimal lengths only, and never reads past its end (X.690
  section 10.1).
- The meaning is the callers' concern: the contents of primitive types are not checked here.

Standards: ITU-T X.690 (DER), RFC 5280 section 4.1.2.5 for times.
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

# Identifier octet (X.690 section 8.1.2): class in bits 8 and 7, "constructed" in bit 6, number in bits 5 to
# 1.
_CONTEXT: Final = 0x80
_CONSTRUCTED: Final = 0x20
# First length octet (X.690 section 8.1.3): below 0x80 it is the length, above it the count of octets that
# follow.
_LONG_FORM: Final = 0x80
_FIRST_GENERALIZED_YEAR: Final = 2050
# 4 GiB: more than any message here may have, and small enough that no length ever costs memory by itself.
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
    """Encode SET OF with one member."""
    # DER sorts the members of a SET OF (X.690 section 11.6); with one there is nothing to sort. An RDN of
    # ours never has two attributes.
    return tlv(SET, item)


def integer(value: int) -> DER:
    """Encode INTEGER, two's complement, shortest form."""
    # The first nine bits may not be all equal (X.690 section 8.3.2). ~value has the bit length of a negative
    # number's two's complement without its sign: -128 takes one octet, 128 takes two.
    magnitude = value if value >= 0 else ~value
    return tlv(INTEGER, value.to_bytes(magnitude.bit_length() // 8 + 1, "big", signed=True))


def enumerated(value: int) -> DER:
    """Encode a small, non-negative ENUMERATED."""
    return tlv(ENUMERATED, bytes((value,)))


def boolean_true() -> DER:
    """Encode BOOLEAN TRUE. FALSE is the DEFAULT wherever we could write it, so DER omits it."""
    # 0xFF in DER (X.690 section 11.1), any non-zero octet in BER (8.2.2); defaults are omitted by 11.5.
    return DER(b"\x01\x01\xff")


def null() -> DER:
    """Encode NULL."""
    return DER(b"\x05\x00")


def octet_string(content: bytes) -> DER:
    """Encode OCTET STRING."""
    return tlv(OCTET_STRING, content)


def bit_string(content: bytes, *, unused_bits: int = 0) -> DER:
    """Encode BIT STRING; the last octet ends in `unused_bits` zero bits."""
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
    # The first two arcs share one number, 40 * X + Y (X.690 section 8.19.4); every number is base 128 with
    # the high bit set in all octets but the last. Cached: the same dozen OIDs stand in every certificate.
    first, second, *arcs = (int(arc) for arc in dotted.split("."))
    return tlv(OBJECT_IDENTIFIER, b"".join(_base128(arc) for arc in (first * 40 + second, *arcs)))


def _base128(arc: int) -> bytes:
    septets = [arc & 0x7F]
    while arc := arc >> 7:
        septets.append(0x80 | (arc & 0x7F))
    return bytes(reversed(septets))


def read(data: bytes, offset: int = 0) -> tuple[int, int, int]:
    """Read one header at `offset`; return (tag, start of the content, end of the value).

    1. There are at least two octets.
    2. The tag has one octet (its number is at most 30).
    3. The length is definite and minimal.
    4. The value ends inside the data.

    BadInput says which of these does not hold.
    """
    # 1.
    if len(data) < offset + 2:
        raise BadInput("der: value is truncated")
    tag, length, start = data[offset], data[offset + 1], offset + 2
    # 2. All five bits of the number set announce that it goes on in further octets (X.690 section 8.1.2.4).
    if tag & 0x1F == 0x1F:
        raise BadInput("der: tag with more than one octet")
    # 3. A count of 0 is BER's indefinite length. Length octets that the end of the data truncates read as a
    #    smaller number; they fail here as not minimal, or at 4.
    if length >= _LONG_FORM:
        count = length & 0x7F
        length = int.from_bytes(data[start : start + count], "big")
        if not 1 <= count <= _MAX_LENGTH_OCTETS or length < max(_LONG_FORM, 1 << 8 * (count - 1)):
            raise BadInput("der: length is indefinite, not minimal or too large")
        start += count
    # 4.
    if start + length > len(data):
        raise BadInput("der: value is truncated")
    return tag, start, start + length


def expect(data: bytes, tag: int, *, what: str) -> bytes:
    """Return the content of the one TLV that `data` must be, with nothing after it; BadInput names `what`."""
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
