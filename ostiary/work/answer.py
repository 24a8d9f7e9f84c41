"""What a recorder answers to whoever sent it an item (msgpack).

Status OK carries `Recorded`, status REFUSED carries `Refused`, status BUSY an empty body. A refusal that was
recorded carries the index of its entry; one that was not (bytes that are no item, a kind that this channel
does not carry) carries none.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ostiary.errors import BadInput, Forbidden, InternalFault, OstiaryError


class Recorded(msgspec.Struct, frozen=True, kw_only=True):
    """The item's entry has this index in the ledger; `output` is what the keyholder made of it, empty where
    it took no part.

    `substitute` holds the to-be-signed bytes that were signed in place of those that the request carried:
    an earlier answer was lost, and this is that answer.
    """

    index: int
    output: bytes = b""
    substitute: bytes = b""


class Refused(msgspec.Struct, frozen=True, kw_only=True):
    """Why the item was refused: the parser rejected it, the recorder denied it, or the keyholder would not do
    what was recorded (an alarm).
    """

    by: Literal["parser", "recorder", "keyholder"]
    rule: str
    reason: str
    index: int | None = None


# Built once; the answer's kind is known from the frame's status, so each has a decoder of its own.
_encoder = msgspec.msgpack.Encoder()
_recorded = msgspec.msgpack.Decoder(Recorded)
_refused = msgspec.msgpack.Decoder(Refused)


def encode_answer(answer: Recorded | Refused) -> bytes:
    """Encode for a channel."""
    return _encoder.encode(answer)


def decode_recorded(body: bytes) -> Recorded:
    """Parse the body of an OK."""
    return _recorded.decode(body)


def decode_refused(body: bytes) -> Refused:
    """Parse the body of a REFUSED."""
    return _refused.decode(body)


def refusal_error(refused: Refused) -> OstiaryError:
    """The error that an edge raises for a refusal."""
    match refused.by:
        case "parser":
            return BadInput(refused.reason)
        case "recorder":
            return Forbidden(refused.reason, rule=refused.rule)
        case "keyholder":
            if refused.rule == BadInput.kind:
                # Only the keyholder sees the shape of a secret, so this one refusal is the caller's to mend.
                # The message never quotes the secret.
                return BadInput(refused.reason)
            return InternalFault(
                f"the keyholder refused what was recorded as entry {refused.index}: {refused.rule}"
            )
