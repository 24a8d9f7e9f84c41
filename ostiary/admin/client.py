"""The command line's end of a service's operator socket."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from ostiary.admin.protocol import VerbProblem, VerbRequest, error_of
from ostiary.edge.channel import Client
from ostiary.edge.frame import Status
from ostiary.errors import Busy, Misconfigured

# A verb is one item at the recorder (1 s) or a read of the store; this is a guard against hanging.
VERB_TIMEOUT_S = 10.0


class AdminClient:
    """Calls verbs of one service and raises the errors that the service raised."""

    def __init__(self, socket_path: Path, *, service: str) -> None:
        self._path = socket_path
        self._service = service

    def call(self, verb: str, **arguments: Any) -> Any:
        """Call a verb and return its result (JSON values)."""
        if not self._path.exists():
            raise Misconfigured(
                f"no admin socket at '{self._path}': is `ostiary {self._service} serve` running with this"
                " --home?"
            )
        # The peer must be the socket file's owner (SO_PEERCRED). Only a role may create files in that
        # directory, so nobody else can listen there in its place.
        client = Client(self._path, expected_uids=frozenset({self._path.stat().st_uid}))
        try:
            body = msgspec.json.encode(VerbRequest(verb=verb, arguments=arguments))
            answer = client.call(body, timeout_s=VERB_TIMEOUT_S)
        finally:
            client.close()
        if answer.status is Status.OK:
            return msgspec.json.decode(answer.body)
        if answer.status is Status.BUSY:
            raise Busy(f"the admin process of {self._service} is busy; try again")
        raise error_of(msgspec.json.decode(answer.body, type=VerbProblem))
