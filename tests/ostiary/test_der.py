"""DER: our encoder against asn1crypto-free vectors of X.690 and pyca; the reader against every malformed
header.
"""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from ostiary import der
from ostiary.errors import BadInput


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, "020100"),
        (127, "02017f"),
        (128, "02020080"),
        (256, "02020100"),
        (-128, "020180"),
        (-129, "0202ff7f"),
    ],
)
def test_integers_are_shortest_twos_complement(value: int, expected: str) -> None:
    assert der.integer(value) == bytes.fromhex(expected)


@pytest.mark.parametrize(
    ("dotted", "expected"),
    [("2.5.4.10", "0603 55040a"), ("1.2.840.113549", "0606 2a864886f70d"), ("2.999.3", "0603 883703")],
)
def test_object_identifiers(dotted: str, expected: str) -> None:
    assert der.oid(dotted) == bytes.fromhex(expected)


def test_times_change_their_form_in_2050() -> None:
    """RFC 5280 section 4.1.2.5: UTCTime through the year 2049."""
    assert der.time(datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)) == b"\x17\x0d491231235959Z"
    assert der.time(datetime(2050, 1, 1, tzinfo=UTC)) == b"\x18\x0f20500101000000Z"


@pytest.mark.parametrize("size", [0, 127, 128, 255, 256, 65535, 65536])
def test_lengths_are_minimal_and_read_back(size: int) -> None:
    encoded = der.octet_string(bytes(size))
    assert der.expect(encoded, der.OCTET_STRING, what="x") == bytes(size)
    assert encoded == x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2"), encoded).value


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "30",
        "3001",
        "308000",
        "308100",
        "30817f",
        "30820080",
        "3085000000000100",
        "1f0100",
        "3082ff",
        "300100aa",
    ],
)
def test_a_malformed_value_is_refused(bad: str) -> None:
    with pytest.raises(BadInput):
        der.expect(bytes.fromhex(bad), der.SEQUENCE, what="x")


@given(st.lists(st.binary(max_size=300), max_size=5))
def test_members_are_read_as_they_were_written(contents: list[bytes]) -> None:
    encoded = der.sequence_of(der.octet_string(content) for content in contents)
    members = [item for _, item in der.items(der.expect(encoded, der.SEQUENCE, what="x"))]
    assert members == [der.octet_string(content) for content in contents]


@given(st.binary(max_size=40))
def test_reading_never_fails_in_another_way(data: bytes) -> None:
    try:
        list(der.items(data))
    except BadInput:
        return
    assert b"".join(item for _, item in der.items(data)) == data
