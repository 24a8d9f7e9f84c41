"""A service's admin process: the operators' verbs, on a local socket only.

Rules:
- SO_PEERCRED decides who may connect: root, the home's owner, and the members of the configured group.
- A verb decodes its arguments, asks the recorder or reads the store, and returns JSON values, or bytes, which
  are sent as they are. The operator's name becomes part of the item, and so of the ledger's entry.
- One thread: operators are few, and the recorder puts their acts in one order anyway.
"""

from __future__ import annotations

import logging
import pwd
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import msgspec

from ostiary.admin.protocol import decode_request, problem_of
from ostiary.edge.frame import Status
from ostiary.edge.hub import Hub, Request
from ostiary.edge.packet_socket import PeerCredentials
from ostiary.errors import BadInput, InternalFault, NotFound, OstiaryError
from ostiary.work.item import Operator

Verb = Callable[[Operator, dict[str, Any]], Any]
ArgumentsT = TypeVar("ArgumentsT", bound=msgspec.Struct)

# msgspec reports the place of a mistake only in its message: "... - at `$.first`", or "field `first`".
_AT_PATH: Final = re.compile(r" - at `\$\.([^`]+)`$")
_QUOTED_FIELD: Final = re.compile(r"field `([^`]+)`")
_log = logging.getLogger("ostiary.admin")


def serve_verbs(hub: Hub, verbs: Mapping[str, Verb]) -> None:
    """Serve operators on the hub's listeners for ever."""
    while True:
        for event in hub.poll(None):
            if isinstance(event, Request):
                status, body = answer_verb(verbs, event.body, operator_of(event.peer))
                try:
                    event.reply(status, body)
                # A result that is longer than a message of the channel: the operator gets the reason instead.
                except OstiaryError as exc:
                    event.reply(Status.REFUSED, msgspec.json.encode(problem_of(exc)))


def answer_verb(verbs: Mapping[str, Verb], body: bytes, operator: Operator) -> tuple[Status, bytes]:
    """Run one verb; every error becomes a problem, and an unexpected one reveals nothing of its cause."""
    try:
        request = decode_request(body)
        verb = verbs.get(request.verb)
        if verb is None:
            raise NotFound(f"no verb '{request.verb}'")  # noqa: TRY301 - one place turns errors into problems
        result = verb(operator, request.arguments)
        return Status.OK, result if isinstance(result, bytes) else msgspec.json.encode(result)
    except OstiaryError as exc:
        return Status.REFUSED, msgspec.json.encode(problem_of(exc))
    except Exception:  # noqa: BLE001 - a fault in one verb must not end the process; the log has the cause
        _log.exception("verb-failed")
        return Status.REFUSED, msgspec.json.encode(
            problem_of(InternalFault("the admin process failed; see its log"))
        )


def arguments_of(arguments: dict[str, Any], kind: type[ArgumentsT]) -> ArgumentsT:
    """Convert a verb's arguments to `kind`; BadInput names the argument at fault."""
    try:
        return msgspec.convert(arguments, kind)
    except msgspec.ValidationError as exc:
        raise BadInput(str(exc), field=_field_of(str(exc))) from exc


def _field_of(message: str) -> str | None:
    """Return the argument that msgspec's message names, None if it names none."""
    found = _AT_PATH.search(message) or _QUOTED_FIELD.search(message)
    return found[1] if found else None


def operator_of(peer: PeerCredentials) -> Operator:
    """Return the person behind a local connection; the name of a uid without an account is its number."""
    # Looked up at each request: accounts come and go while the process runs. The uid is what was proven; the
    # name is for people who read the ledger.
    try:
        name = pwd.getpwuid(peer.uid).pw_name
    except KeyError:
        name = str(peer.uid)
    return Operator(uid=peer.uid, name=name)
