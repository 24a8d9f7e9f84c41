"""The text in an agent's key: what is written is read, and nothing else is."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keyutils.payload import EpochSeconds, Payload, PayloadError, decode, encode


def block(kind: str, content: bytes) -> bytes:
    text = base64.encodebytes(content)
    return b"-----BEGIN %s-----\n%s-----END %s-----\n" % (kind.encode(), text, kind.encode())


GOOD = Payload(
    agent="8d0f4a1e-3d0e-4a8e-9a55-5a1f3f0c7a10",
    generation=3,
    not_before=EpochSeconds(1_700_000_000),
    not_after=EpochSeconds(1_700_007_200),
    private_key_pem=block("PRIVATE KEY", b"marked-secret"),
    chain_pem=(block("CERTIFICATE", b"leaf"), block("CERTIFICATE", b"issuing")),
    roots_pem=(block("CERTIFICATE", b"root"),),
)


def test_written_text_is_header_line_and_pem() -> None:
    lines = encode(GOOD).split(b"\n")
    assert lines[0] == (
        b'{"agent":"8d0f4a1e-3d0e-4a8e-9a55-5a1f3f0c7a10","generation":3,"not_after":1700007200,'
        b'"not_before":1700000000,"roots":1,"v":1}'
    )
    assert lines[1] == b"-----BEGIN PRIVATE KEY-----"
    assert decode(bytearray(encode(GOOD))) == GOOD
    assert GOOD.certificate_pem == GOOD.chain_pem[0]


@given(
    st.integers(0, 9),
    st.binary(min_size=1, max_size=200),
    st.lists(st.binary(min_size=1, max_size=200), max_size=3),
)
def test_round_trip(generation: int, key: bytes, more: list[bytes]) -> None:
    chain = (GOOD.chain_pem[0], *(block("CERTIFICATE", each) for each in more))
    payload = replace(GOOD, generation=generation, private_key_pem=block("PRIVATE KEY", key), chain_pem=chain)
    assert decode(encode(payload)) == payload


def test_key_shows_in_no_repr() -> None:
    assert "PRIVATE" not in repr(GOOD)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (b'"v":1', b'"v":2', "version 2"),
        (b'"v":1', b'"v":true', "not of type int"),
        (b'"roots":1', b'"roots":3', "no certificate"),
        (b'"roots":1', b'"roots":-1', "no certificate"),
        (b'"v":1', b'"v":1,"x":0', "other members"),
        (b'{"agent"', b"[", "not JSON"),
        (b"PRIVATE KEY", b"EC PRIVATE KEY", "one private key"),
        (b"-----END PRIVATE KEY-----\n", b"-----END PRIVATE KEY-----\n\n", "bytes between"),
    ],
)
def test_foreign_text_is_refused(old: bytes, new: bytes, message: str) -> None:
    with pytest.raises(PayloadError, match=message) as caught:
        decode(encode(GOOD).replace(old, new))
    assert base64.b64encode(b"marked-secret").decode() not in str(caught.value)


def test_too_long_is_refused() -> None:
    with pytest.raises(PayloadError, match="at most 32767"):
        encode(replace(GOOD, roots_pem=(block("CERTIFICATE", b"x" * 30_000),)))


@pytest.mark.parametrize("key", [b"", GOOD.private_key_pem.rstrip(), GOOD.private_key_pem * 2])
def test_block_that_is_not_one_block_is_not_written(key: bytes) -> None:
    with pytest.raises(PayloadError):
        encode(replace(GOOD, private_key_pem=key))
