"""The messages between host and worker: SOCK_SEQPACKET records, length-bounded, nonce echoed.

    request   kind (1 byte) | nonce (16 bytes) | body                 host to worker, trusted
    answer    nonce (16 bytes) | answers to items, LF between them    worker to host, hostile

    body of LOAD     the module's source in UTF-8: one item
    body of CALL     how many answers a record gathers (1 byte) | entry | LF and an item's JSON, for each item
    answer to one    outcome (1 byte) | JSON of DONE, or `REASON LINE` in ASCII of REFUSED

Rules:
- A record is whole or refused: no half frames, no lengths to believe. The kernel cuts a record that is longer
  than allowed and says so (MSG_TRUNC); the worker ends.
- The nonce is the host's, fresh for each request; an answer with another nonce is stale or forged and ends
  the worker.
- JSON is written without line ends, so LF stands only between items. Answers come in the order of the items,
  and are counted: one more than was asked for ends the worker.
"""

from __future__ import annotations

from collections.abc import Iterable
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
_BETWEEN: Final = b"\n"


class Kind(IntEnum):
    """What the host wants."""

    LOAD = 0x4C  # L
    CALL = 0x43  # C


class Outcome(IntEnum):
    """What the worker says became of an item."""

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


def pack_calls(entry: str, items: Iterable[bytes], *, gathered: int) -> bytes:
    """Return the body of CALL; neither the entry nor an item holds a line end."""
    return bytes((gathered,)) + _BETWEEN.join((entry.encode(), *items))


def unpack_calls(body: bytes) -> tuple[int, str, list[bytes]]:
    """Return (how many answers a record gathers, entry, items)."""
    entry, *items = body[1:].split(_BETWEEN)
    return body[0], entry.decode(), items


def pack_answers(nonce: bytes, answers: Iterable[tuple[Outcome, bytes]]) -> bytes:
    """Return an answer record; the worker has checked the length."""
    return nonce + _BETWEEN.join([bytes((outcome,)) + body for outcome, body in answers])


def unpack_answers(record: bytes, nonce: bytes, *, most: int) -> list[tuple[Outcome, bytes]]:
    """Return (outcome, body) of each answer, or raise `ValueError`; `most` are still to come to the request
    with this nonce.
    """
    if len(record) < HEADER_BYTES or len(record) > MAX_ANSWER_BYTES:
        raise ValueError("answer has a wrong length")
    if not record.startswith(nonce):
        raise ValueError("answer has another nonce")
    if record.count(_BETWEEN, NONCE_BYTES) >= most:
        raise ValueError("more answers than items")
    answers = record[NONCE_BYTES:].split(_BETWEEN)
    return [(Outcome(int.from_bytes(answer[:1], "big")), answer[1:]) for answer in answers]
