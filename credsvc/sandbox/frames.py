"""The messages between host and worker: one SOCK_SEQPACKET record each, length-bounded, nonce echoed.

    request   kind (1 byte) | nonce (16 bytes) | body          host to worker, trusted
    answer    nonce (16 bytes) | outcome (1 byte) | body       worker to host, hostile

Rules:
- A record is whole or refused: no half frames, no lengths to believe. The kernel cuts a record that is longer
  than allowed and says so (MSG_TRUNC); the worker ends.
- The nonce is the host's, fresh for each request; an answer with another nonce is stale or forged and ends
  the worker.
- The body of `CALL` and of `DONE` is JSON; of `LOAD`, the module's source in UTF-8; of `REFUSED`, the text
  `REASON LINE` in ASCII.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

__all__ = ["MAX_ANSWER_BYTES", "MAX_REQUEST_BYTES", "MAX_SOURCE_BYTES", "NONCE_BYTES", "Kind", "Outcome"]

NONCE_BYTES: Final = 16
MAX_SOURCE_BYTES: Final = 64 * 1024
# A record must fit the default socket buffer (net.core.wmem_default: 208 KiB with its overhead), or the send
# fails with EMSGSIZE.
MAX_REQUEST_BYTES: Final = 128 * 1024
MAX_ANSWER_BYTES: Final = 64 * 1024
HEADER_BYTES: Final = NONCE_BYTES + 1


class Kind(IntEnum):
    """What the host wants."""

    LOAD = 0x4C  # L
    CALL = 0x43  # C


class Outcome(IntEnum):
    """What the worker says became of it."""

    LOADED = 0x6B  # k
    REFUSED = 0x72  # r  the source does not compile under the policy, or its top level raised
    DONE = 0x64  # d
    RAISED = 0x78  # x  the module raised an ordinary exception, or its value is no JSON
    EXHAUSTED = 0x6D  # m  memory, recursion, or an exception that is none: the worker is to be replaced
    UNSENDABLE = 0x6F  # o  the module's value is too large


def pack_request(kind: Kind, nonce: bytes, body: bytes) -> bytes:
    """Return a request record, or raise `ValueError` when it is longer than a worker reads."""
    if len(body) > MAX_REQUEST_BYTES - HEADER_BYTES:
        raise ValueError("request is too long")
    return bytes((kind,)) + nonce + body


def unpack_request(record: bytes) -> tuple[int, bytes, bytes]:
    """Return (kind, nonce, body) of a record from the host."""
    return record[0], record[1:HEADER_BYTES], record[HEADER_BYTES:]


def pack_answer(nonce: bytes, outcome: Outcome, body: bytes) -> bytes:
    """Return an answer record; the worker has checked the length."""
    return nonce + bytes((outcome,)) + body


def unpack_answer(record: bytes, nonce: bytes) -> tuple[Outcome, bytes]:
    """Return (outcome, body) of an answer to the request with this nonce, or raise `ValueError`."""
    if len(record) < HEADER_BYTES or len(record) > MAX_ANSWER_BYTES:
        raise ValueError("answer has a wrong length")
    if record[:NONCE_BYTES] != nonce:
        raise ValueError("answer has another nonce")
    return Outcome(record[NONCE_BYTES]), record[HEADER_BYTES:]
