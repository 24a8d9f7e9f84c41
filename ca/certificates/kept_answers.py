"""OCSP answers that are kept for a while, by the bytes of their requests. Pure.

Rules:
- Kept is only what others will ask again: the answer about one certificate that exists, to a short request
  without a nonce. A certificate that is unknown may be issued the next moment.
- What is kept has a bound in bytes; what was not asked for the longest goes first.

Whoever keeps answers says for how long, and forgets them when something was revoked. Time is an argument:
nanoseconds of a monotonic clock.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from ca.certificates.ocsp import has_nonce_extension, parse_request, status_tag
from ostiary.errors import BadInput

# A request about one certificate has 80 to 120 bytes. Longer ones carry what changes nothing (a requestor's
# name, a signature), so that one client could fill the memory with answers to the same question.
MAX_KEPT_REQUEST_BYTES: Final = 256
# Of an entry beside its bytes: two bytes objects, a tuple, a number, its place in the OrderedDict.
ENTRY_BYTES: Final = 350


class KeptAnswers:
    """Answers in the order in which they were last asked for."""

    def __init__(self, *, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        # request -> (answer, until, monotonic ns)
        self._answers: OrderedDict[bytes, tuple[bytes, int]] = OrderedDict()
        self._size_bytes = 0

    @property
    def size_bytes(self) -> int:
        """What the answers take, with their requests."""
        return self._size_bytes

    def find(self, request_der: bytes, now_ns: int) -> bytes | None:
        """Return the answer that is kept for these bytes."""
        kept = self._answers.get(request_der)
        if kept is None or now_ns >= kept[1]:
            return None
        self._answers.move_to_end(request_der)
        return kept[0]

    def add(self, request_der: bytes, answer: bytes, *, until_ns: int) -> None:
        """Keep an answer."""
        replaced = self._answers.pop(request_der, None)
        if replaced is not None:
            self._size_bytes -= _size_bytes(request_der, replaced[0])
        self._answers[request_der] = (answer, until_ns)
        self._size_bytes += _size_bytes(request_der, answer)
        while self._size_bytes > self._max_bytes:
            oldest, (its_answer, _) = self._answers.popitem(last=False)
            self._size_bytes -= _size_bytes(oldest, its_answer)

    def clear(self) -> None:
        """Forget them all."""
        self._answers.clear()
        self._size_bytes = 0


def _size_bytes(request_der: bytes, answer: bytes) -> int:
    return ENTRY_BYTES + len(request_der) + len(answer)


def may_keep(request_der: bytes, answer: bytes) -> bool:
    """Return whether others may be given this answer (DER) to the same request (DER)."""
    if len(request_der) > MAX_KEPT_REQUEST_BYTES or has_nonce_extension(request_der):
        return False
    try:
        cert_ids = parse_request(request_der).cert_ids
    except BadInput:
        return False
    return len(cert_ids) == 1 and status_tag(answer, cert_ids[0]) in _EXISTS


_EXISTS: Final = frozenset((0x80, 0xA1))
"""The tags of CertStatus for good and revoked (RFC 6960 section 4.2.1)."""
