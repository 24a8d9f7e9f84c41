"""The protocol between the command line and a service's admin process (JSON over a channel).

    request   {"verb": "token.create", "arguments": {...}}
    response  status OK: the verb's result; status REFUSED: a problem {"kind", "message", "field", "rule"}

JSON and not msgpack, so that a trace of an operator's tool is readable. A response shows a new token once;
credentials travel as HPKE envelopes. No other secret goes this way.

Two verbs of the ledger answer with bytes instead, because a verification reads them by the gigabyte: the
stored hashes side by side, and a page of entries:

    following   uint64   the index behind the last entry
    count       uint32
    lengths     uint32 each
    entries     side by side, each as it was hashed
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Final

import msgspec

from ostiary import errors
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, OstiaryError


# Both ends are of one release (the wheel), so an unknown member is a mistake and not a later version.
class VerbRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A verb and its arguments."""

    verb: str
    arguments: dict[str, Any]


class VerbProblem(msgspec.Struct, frozen=True, omit_defaults=True):
    """An error on its way to the operator."""

    kind: str
    message: str
    field: str | None = None
    rule: str | None = None


_PAGE_HEAD: Final = struct.Struct(">QI")

# Errors with a message and a field only; Forbidden and Busy have a constructor of their own.
_KINDS: dict[str, type[OstiaryError]] = {
    cls.kind: cls
    for cls in (
        errors.BadInput,
        errors.Unauthenticated,
        errors.NotFound,
        errors.Conflict,
        errors.Misconfigured,
        errors.InternalFault,
    )
}


def decode_request(body: bytes) -> VerbRequest:
    """Parse a request; raises BadInput."""
    try:
        return msgspec.json.decode(body, type=VerbRequest)
    except msgspec.MsgspecError as exc:
        raise BadInput(f"malformed verb request: {exc}") from exc


def problem_of(error: OstiaryError) -> VerbProblem:
    """Return the problem that reports an error to the operator."""
    return VerbProblem(
        kind=error.kind, message=error.message, field=error.field, rule=getattr(error, "rule", None)
    )


def error_of(problem: VerbProblem) -> OstiaryError:
    """Return the error that a problem reports."""
    if problem.kind == Forbidden.kind:
        return Forbidden(problem.message, rule=problem.rule or "unknown", field=problem.field)
    if problem.kind == Busy.kind:
        return Busy(problem.message)
    return _KINDS.get(problem.kind, InternalFault)(problem.message, field=problem.field)


def encode_page(entries: Sequence[bytes], *, following: int) -> bytes:
    """Put entries into one message; `following` is the index behind the last one."""
    lengths = struct.pack(f">{len(entries)}I", *map(len, entries))
    return b"".join((_PAGE_HEAD.pack(following, len(entries)), lengths, *entries))


def page_end(page: bytes) -> tuple[int, int]:
    """Read (the index behind the last entry, how many entries there are), without looking at them."""
    try:
        following, count = _PAGE_HEAD.unpack_from(page)
    except struct.error as exc:
        raise BadInput("malformed page of entries") from exc
    return following, count


def decode_page(page: bytes) -> list[bytes]:
    """Take a page's entries apart; raises BadInput where they do not make up the message."""
    _, count = page_end(page)
    start = _PAGE_HEAD.size + 4 * count
    if start > len(page):
        raise BadInput("malformed page of entries")
    lengths = struct.unpack_from(f">{count}I", page, _PAGE_HEAD.size)
    ends = list(accumulate(lengths, initial=start))
    if ends[-1] != len(page):
        raise BadInput("malformed page of entries")
    return [page[at:end] for at, end in pairwise(ends)]
