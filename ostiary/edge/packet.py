"""Packets of answers on a channel with many calls in flight: one frame, or an array of several.

    packet  frame | msgpack [frame, frame, ...]

Rules:
- A turn of the recorder answers many calls of one peer: together they cost it one wake-up, and the socket
  the room of one packet.
- One frame is sent as it is (`ostiary.edge.frame`). So whoever has one call in flight at a time, as a client
  for threads has, never sees an array. Requests are always one frame.
- What is no frame in an array makes the whole packet malformed, and its reader closes the connection.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import msgspec

from ostiary.edge.frame import REQUEST_ID_BYTES, MalformedFrame, decode_frame, encode_frame

Frame = tuple[bytes, int, bytes]
"""(request id, deadline or status, body)"""

# An array of three whose first member is a byte string, the id: an array of frames begins with an array.
_ONE_FRAME: Final = b"\x93\xc4"
# Beside a frame's body: the array's byte, the id with its 2, a number of at most 9 bytes and a length of at
# most 5.
_FRAMING_BYTES: Final = 33
_ARRAY_BYTES: Final = 5

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(list[Frame], strict=True)


def encode_packets(frames: Iterable[Frame], *, limit_bytes: int) -> Iterator[bytes]:
    """In order, in as few packets as have at most `limit_bytes` each; a frame that is larger than that is
    alone in its packet.
    """
    together: list[Frame] = []
    size = _ARRAY_BYTES
    for frame in frames:
        size += _FRAMING_BYTES + len(frame[2])
        if together and size > limit_bytes:
            yield _encode(together)
            together, size = [], _ARRAY_BYTES + _FRAMING_BYTES + len(frame[2])
        together.append(frame)
    if together:
        yield _encode(together)


def decode_packet(packet: bytes | memoryview) -> list[Frame]:
    """The frames of a packet, in order, at least one; raises `MalformedFrame`."""
    if packet[:2] == _ONE_FRAME:
        return [decode_frame(packet)]
    try:
        frames = _decoder.decode(packet)
    except msgspec.MsgspecError as exc:
        raise MalformedFrame("neither a frame nor an array of frames") from exc
    if not frames or any(len(frame[0]) != REQUEST_ID_BYTES for frame in frames):
        raise MalformedFrame("an array without frames, or a request id of another length")
    return frames


def _encode(frames: list[Frame]) -> bytes:
    return encode_frame(*frames[0]) if len(frames) == 1 else _encoder.encode(frames)
