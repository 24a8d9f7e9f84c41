"""Packets of several answers: what they are, how they are divided, and what is none."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.edge.frame import MalformedFrame, encode_frame
from ostiary.edge.packet import Frame, decode_packet, encode_packets

ID = bytes(range(16))
OTHER = bytes(range(1, 17))
FRAMES = st.lists(
    st.tuples(st.binary(min_size=16, max_size=16), st.integers(0, 2**63 - 1), st.binary(max_size=300)),
    min_size=1,
    max_size=40,
)


def test_one_frame_is_sent_as_it_is() -> None:
    assert list(encode_packets([(ID, 0, b"body")], limit_bytes=1000)) == [encode_frame(ID, 0, b"body")]


def test_several_are_an_array_of_frames() -> None:
    (packet,) = encode_packets([(ID, 0, b"a"), (OTHER, 1, b"b")], limit_bytes=1000)
    assert packet == b"\x92" + encode_frame(ID, 0, b"a") + encode_frame(OTHER, 1, b"b")


@given(FRAMES, st.integers(100, 2000))
def test_whatever_is_sent_arrives_in_order_and_within_the_limit(frames: list[Frame], limit: int) -> None:
    packets = list(encode_packets(frames, limit_bytes=limit))
    arrived = [decode_packet(packet) for packet in packets]
    assert [frame for several in arrived for frame in several] == frames
    sizes = zip(packets, arrived, strict=True)
    assert all(len(packet) <= limit or len(several) == 1 for packet, several in sizes)


@given(st.integers(1, 60), st.integers(0, 300))
def test_a_packet_takes_as_many_as_fit(count: int, size: int) -> None:
    frames = [(ID, 2**63 - 1, bytes(size))] * count
    packets = list(encode_packets(frames, limit_bytes=2000))
    # At most 33 bytes stand beside each body, and 5 beside all of them.
    assert len(packets) <= -(-count // max(1, (2000 - 5) // (size + 33)))


@pytest.mark.parametrize("count", [2, 3, 15, 16, 70_000])
def test_an_array_of_any_length_is_told_from_a_frame(count: int) -> None:
    frames = [(ID, 1, b"")] * count
    assert decode_packet(msgspec.msgpack.encode(frames)) == frames


@pytest.mark.parametrize(
    "packet",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\x90", id="no frames"),
        pytest.param(b"\x91" + encode_frame(ID[:15], 0, b""), id="short id"),
        pytest.param(b"\x92" + encode_frame(ID, 0, b""), id="one frame less"),
        pytest.param(b"\x91" + encode_frame(ID, 0, b"") + b"\x00", id="something after the array"),
        pytest.param(b"\x91\x91" + encode_frame(ID, 0, b""), id="an array in an array"),
        pytest.param(b"\x93\xc4\x10" + ID + b"\x05", id="a frame that is cut off"),
    ],
)
def test_what_is_neither_is_malformed(packet: bytes) -> None:
    with pytest.raises(MalformedFrame):
        decode_packet(packet)
