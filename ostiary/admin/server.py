"""A service's admin process: the operators' verbs, on a local socket only.

Rules:
- Who may speak is decided by SO_PEERCRED: root, the home's owner, and the members of the configured group.
- A verb decodes its arguments, asks the recorder or reads the store, and returns JSON values; the operator's
  name goes into the item.
- One thread: operators are few, and the recorder orders their acts anyway.
"""

from __future__ import annotations

import logging
import pwd
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from ostiary.admin.protocol import decode_request, problem_of
from ostiary.edge.channel import PeerCredentials, Status
from ostiary.edge.hub import Hub, Request
from ostiary.errors import BadInput, InternalFault, NotFound, OstiaryError
from ostiary.work.item import Operator

Verb = Callable[[Operator, dict[str, Any]], Any]
ArgumentsT = TypeVar("ArgumentsT", bound=msgspec.Struct)

_AT_PATH: Final = re.compile(r" - at `\$\.([^`]+)`$")
_QUOTED_FIELD: Final = re.compile(r"field `([^`]+)`")
_log = logging.getLogger("ostiary.admin")


def serve_verbs(hub: Hub, verbs: Mapping[str, Verb]) -> None:
    """Answer operators for ever on the hub's listeners."""
    while True:
        for event in hub.poll(None):
            if isinstance(event, Request):
                status, body = answer_verb(verbs, event.body, operator_of(event.peer))
                try:
                    event.reply(status, body)
                except OstiaryError as exc:
                    event.reply(Status.REFUSED, msgspec.json.encode(problem_of(exc)))


def answer_verb(verbs: Mapping[str, Verb], body: bytes, operator: Operator) -> tuple[Status, bytes]:
    """Run one verb; every error becomes a problem, and an unforeseen one says nothing of its inside."""
    try:
        request = decode_request(body)
        verb = verbs.get(request.verb)
        if verb is None:
            raise NotFound(f"no verb '{request.verb}'")  # noqa: TRY301 - one place turns errors into answers
        return Status.OK, msgspec.json.encode(verb(operator, request.arguments))
    except OstiaryError as exc:
        return Status.REFUSED, msgspec.json.encode(problem_of(exc))
    except Exception:  # noqa: BLE001 - an operator hears of a fault of ours, not of its inside
        _log.exception("verb-failed")
        return Status.REFUSED, msgspec.json.encode(
            problem_of(InternalFault("the admin process failed; see its log"))
        )


def arguments_of(arguments: dict[str, Any], kind: type[ArgumentsT]) -> ArgumentsT:
    """A verb's arguments as a checked value; raises BadInput that names the argument."""
    try:
        return msgspec.convert(arguments, kind)
    except msgspec.ValidationError as exc:
        raise BadInput(str(exc), field=_field_of(str(exc))) from exc


def _field_of(message: str) -> str | None:
    """The argument at fault: msgspec ends with its path, or quotes a field that is missing or unknown."""
    found = _AT_PATH.search(message) or _QUOTED_FIELD.search(message)
    return found[1] if found else None


def operator_of(peer: PeerCredentials) -> Operator:
    """The person behind a local connection; a uid without an account keeps its number as its name."""
    try:
        name = pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        name = str(peer.uid)
    return Operator(uid=peer.uid, name=name)
