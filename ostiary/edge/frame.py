"""Frames of a channel: what one packet between two roles of a service says. Pure.

    request  msgpack [request_id: bytes(16), deadline_ns: int, body: bytes]
    answer   msgpack [request_id: bytes(16), status: int,      body: bytes]

Rules:
- `deadline_ns` is CLOCK_MONOTONIC, absolute: the same instant in every process of a host.
- The id is random per message; whoever gets an answer with another id (a late one) drops it.
- A whole frame is at most `MAX_FRAME_BYTES`.

What is *not* here: sockets (`ostiary.edge.packet_socket`), and what a body means.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

import msgspec

# A mebibyte: a list of revoked certificates, or 256 items of a turn, with room to spare.
MAX_FRAME_BYTES: Final = 1 << 20
# 128 random bits: two requests never share an id, so an answer is never taken for another's.
REQUEST_ID_BYTES: Final = 16


class Status(IntEnum):
    """What an answer says before its body is read."""

    # BUSY says that nothing was done; REFUSED, that nothing ever will be; its body says why.
    OK = 0
    REFUSED = 1
    BUSY = 2


class MalformedFrame(Exception):
    """The peer sent something that is no frame. Its connection must be closed: both ends are ours, so the
    peer is broken or was broken into.
    """


_encoder = msgspec.msgpack.Encoder()
# strict: no text for the id, no bool or float for the number.
_frame_decoder = msgspec.msgpack.Decoder(tuple[bytes, int, bytes], strict=True)


def encode_frame(request_id: bytes, number: int, body: bytes) -> bytes:
    """One packet; `number` is a request's deadline in ns or an answer's status."""
    return _encoder.encode((request_id, number, body))


def decode_frame(packet: bytes | memoryview) -> tuple[bytes, int, bytes]:
    """(request id, deadline or status, body); raises `MalformedFrame`."""
    try:
        frame = _frame_decoder.decode(packet)
    except msgspec.MsgspecError as exc:
        raise MalformedFrame("not a frame") from exc
    if len(frame[0]) != REQUEST_ID_BYTES:
        raise MalformedFrame(f"request id of {len(frame[0])} bytes")
    return frame
