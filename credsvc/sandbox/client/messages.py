"""What is said to a worker and what its answers mean: bytes in, values and faults out, no I/O.

The answers are hostile: a word of a closed set, a small number, or what `decode` lets through.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from credsvc.sandbox import frames
from credsvc.sandbox.client.decode import HoleProposal, RefusedAnswer, decode_proposal
from credsvc.sandbox.client.faults import Fault, SandboxFault, SourceRefused, fault
from credsvc.sandbox.frames import Outcome
from credsvc.sandbox.refusal import Reason

# An answer to one item.
Reply = tuple[Outcome, bytes]

_encoder: Final = msgspec.json.Encoder()


def encode_call(entry: str, item: bytes) -> bytes:
    """Return the body of a request of one call; raises `SandboxFault` where it is too large."""
    body = encode_items(entry, [item])
    if len(body) > frames.MAX_REQUEST_BYTES - frames.HEADER_BYTES:
        raise fault(Fault.REQUEST_TOO_LARGE)
    return body


def encode_arguments(arguments: Mapping[str, Any]) -> bytes:
    """Return an item: JSON without a line end."""
    try:
        return _encoder.encode(dict(arguments))
    except UnicodeEncodeError:  # a lone surrogate, for which JSON has an escape and UTF-8 nothing
        return json.dumps(dict(arguments)).encode("ascii")


def encode_items(entry: str, items: Sequence[bytes], *, gathered: int = 1) -> bytes:
    """Return the body of a request of many calls; raises `SandboxFault` where no module has such an entry."""
    if "\n" in entry:
        raise fault(Fault.MODULE_RAISED)
    return frames.pack_calls(entry, items, gathered=gathered)


def encode_source(source: str) -> bytes:
    """Make the two refusals that need no parser; the worker makes them again. Raises `SourceRefused`."""
    try:
        encoded = source.encode("utf-8")
    except UnicodeEncodeError as exc:
        raise SourceRefused(reason=Reason.NOT_TEXT, line=0) from exc
    if len(encoded) > frames.MAX_SOURCE_BYTES:
        raise SourceRefused(reason=Reason.TOO_LARGE, line=0)
    return encoded


def read_call(replies: Sequence[Reply]) -> HoleProposal:
    """Return what the module proposes in its one answer; raises `SandboxFault`."""
    return read_reply(*replies[0])


def read_reply(outcome: Outcome, body: bytes) -> HoleProposal:
    """Return what the module proposes in one of its answers; raises `SandboxFault`."""
    if outcome is Outcome.RAISED:
        raise fault(Fault.MODULE_RAISED)
    if outcome is Outcome.EXHAUSTED:
        raise fault(Fault.EXHAUSTED)
    if outcome is not Outcome.DONE:
        raise fault(Fault.ANSWER_REFUSED)
    try:
        return decode_proposal(body)
    except RefusedAnswer as exc:
        raise fault(Fault.ANSWER_REFUSED) from exc


def read_load(replies: Sequence[Reply]) -> None:
    """Return where the module is loaded; raises `SourceRefused` or `SandboxFault`."""
    outcome, body = replies[0]
    if outcome is Outcome.REFUSED:
        raise _read_refusal(body)
    if outcome is not Outcome.LOADED:
        raise fault(Fault.NOT_LOADED)


def _read_refusal(body: bytes) -> SourceRefused | SandboxFault:
    word, _space, number = body[:64].decode("ascii", "replace").partition(" ")
    try:
        reason = Reason(word)
    except ValueError:
        return fault(Fault.NOT_LOADED)
    line = int(number) if number.isascii() and number.isdigit() and len(number) <= 6 else 0
    return SourceRefused(reason=reason, line=line)
