"""The command line's end of a service's operator socket."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from ostiary.admin.protocol import VerbProblem, VerbRequest, error_of
from ostiary.edge.channel import Answer, Client, await_answer, connect
from ostiary.edge.frame import MAX_FRAME_BYTES, REQUEST_ID_BYTES, MalformedFrame, Status, encode_frame
from ostiary.edge.packet_socket import Connection, PeerClosed
from ostiary.errors import Busy, Misconfigured

# A verb is one item at the recorder (1 s) or a read of the store; this is a guard against hanging.
VERB_TIMEOUT_S = 10.0
Arguments = Mapping[str, Any]


class AdminClient:
    """Calls verbs of one service and raises the errors that the service raised."""

    def __init__(self, socket_path: Path, *, service: str) -> None:
        self._path = socket_path
        self._service = service

    def call(self, verb: str, **arguments: Any) -> Any:
        """Call a verb and return its result (JSON values)."""
        return msgspec.json.decode(self.fetch(verb, **arguments))

    def fetch(self, verb: str, **arguments: Any) -> bytes:
        """Call a verb and return its result as it was sent."""
        client = Client(self._path, expected_uids=self._server_uids())
        try:
            return self._result(client.call(_request(verb, arguments), timeout_s=VERB_TIMEOUT_S))
        finally:
            client.close()

    def follow(
        self, verb: str, arguments: Arguments, following: Callable[[bytes], Arguments | None]
    ) -> Iterator[bytes]:
        """Yield the results of one call after another, over one connection.

        `following` makes the next call's arguments of a result, None after the last. That call is sent before
        the result is yielded, so that the service works while the caller does.
        """
        sock = connect(self._path, expected_uids=self._server_uids())
        connection = Connection(sock, bytearray(MAX_FRAME_BYTES))
        try:
            pending = _send(connection, _request(verb, arguments))
            while True:
                body = self._result(_receive(connection, pending))
                wanted = following(body)
                if wanted is not None:
                    pending = _send(connection, _request(verb, wanted))
                yield body
                if wanted is None:
                    return
        except (PeerClosed, MalformedFrame) as exc:
            raise Busy(f"the admin process of {self._service} went away") from exc
        finally:
            connection.close()

    def _server_uids(self) -> frozenset[int]:
        if not self._path.exists():
            raise Misconfigured(
                f"no admin socket at '{self._path}': is `ostiary {self._service} serve` running with this"
                " --home?"
            )
        # The peer must be the socket file's owner (SO_PEERCRED). Only a role may create files in that
        # directory, so nobody else can listen there in its place.
        return frozenset({self._path.stat().st_uid})

    def _result(self, answer: Answer) -> bytes:
        if answer.status is Status.OK:
            return answer.body
        if answer.status is Status.BUSY:
            raise Busy(f"the admin process of {self._service} is busy; try again")
        raise error_of(msgspec.json.decode(answer.body, type=VerbProblem))


def _request(verb: str, arguments: Arguments) -> bytes:
    return msgspec.json.encode(VerbRequest(verb=verb, arguments=dict(arguments)))


def _deadline_ns() -> int:
    return time.monotonic_ns() + int(VERB_TIMEOUT_S * 1e9)


def _send(connection: Connection, body: bytes) -> bytes:
    """Send a request; return its id."""
    request_id = os.urandom(REQUEST_ID_BYTES)
    connection.send(encode_frame(request_id, _deadline_ns(), body))
    return request_id


def _receive(connection: Connection, request_id: bytes) -> Answer:
    # A deadline of its own: the caller may have worked for longer than that since the request was sent, and
    # the answer waits in the socket.
    answer = await_answer(connection, request_id, _deadline_ns())
    if answer is None:
        raise Busy("the admin process did not answer in time")
    return answer
