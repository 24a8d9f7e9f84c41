"""Reading what a keyholder answers: for its recorder."""

from __future__ import annotations

import msgspec

from ostiary.keyholder.protocol import FromKeyholder

_from_keyholder: msgspec.msgpack.Decoder[FromKeyholder] = msgspec.msgpack.Decoder(FromKeyholder)


def decode_answer(body: bytes) -> FromKeyholder:
    """Parse what a keyholder says; raises msgspec.DecodeError or msgspec.ValidationError."""
    return _from_keyholder.decode(body)
