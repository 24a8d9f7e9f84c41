"""What a packet of a channel says, and what is no frame."""

from __future__ import annotations

import pytest

from ostiary.edge.frame import MalformedFrame, decode_frame, encode_frame

ID = bytes(range(16))


def test_a_frame_is_what_the_module_says() -> None:
    packet = encode_frame(ID, 5, b"body")
    assert packet == b"\x93\xc4\x10" + ID + b"\x05\xc4\x04body"
    assert decode_frame(packet) == (ID, 5, b"body")


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xc1", id="not msgpack"),
        pytest.param(encode_frame(ID[:15], 5, b""), id="short id"),
        pytest.param(encode_frame(ID, 5, b"") + b"\x00", id="something after the frame"),
        pytest.param(b"\x92\xc4\x10" + ID + b"\x05", id="two elements"),
        pytest.param(b"\x93\xb0" + b"a" * 16 + b"\x05\xc4\x00", id="the id is text"),
        pytest.param(b"\x93\xc4\x10" + ID + b"\xc3\xc4\x00", id="the deadline is a bool"),
    ],
)
def test_what_is_no_frame_is_malformed(packet: bytes) -> None:
    with pytest.raises(MalformedFrame):
        decode_frame(packet)
