"""Verbs over a real socket: who calls, what is answered, and that no fault ends the process."""

from __future__ import annotations

import contextlib
import logging
import os
import pwd
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest

from ostiary.admin.client import AdminClient
from ostiary.admin.server import Verb, answer_verb, arguments_of, operator_of, serve_verbs
from ostiary.edge.frame import MAX_FRAME_BYTES, Status
from ostiary.edge.hub import Hub
from ostiary.edge.packet_socket import PeerCredentials, listen
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, Misconfigured, NotFound
from ostiary.work.item import Operator

SECRET = "hunter2-marked"
ME = Operator(uid=os.getuid(), name=pwd.getpwuid(os.getuid()).pw_name)


class Count(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    count: Annotated[int, msgspec.Meta(ge=0)]


def fail(_operator: Operator, _arguments: dict[str, Any]) -> Any:
    raise RuntimeError(SECRET)


def forbid(_operator: Operator, _arguments: dict[str, Any]) -> Any:
    raise Forbidden("no", rule="approver-key")


def end(_operator: Operator, _arguments: dict[str, Any]) -> Any:
    # serve_verbs runs for ever; SystemExit is none of the exceptions that a verb's fault may be.
    raise SystemExit


VERBS: Mapping[str, Verb] = {
    "who": lambda operator, _arguments: {"uid": operator.uid, "name": operator.name},
    "double": lambda _operator, arguments: 2 * arguments_of(arguments, Count).count,
    "raw": lambda _operator, arguments: b"\x00%d" % arguments_of(arguments, Count).count,
    "long": lambda _operator, _arguments: "x" * MAX_FRAME_BYTES,
    "fail": fail,
    "forbid": forbid,
    "end": end,
}


@pytest.fixture
def client(tmp_path: Path) -> Iterator[AdminClient]:
    hub = Hub()
    hub.listen(tmp_path / "s", channel="operator", allowed_uids=frozenset({os.getuid()}))
    thread = threading.Thread(target=_serve_until_end, args=(hub,), daemon=True)
    thread.start()
    client = AdminClient(tmp_path / "s", service="ca")
    yield client
    ending = threading.Thread(target=_ask_to_end, args=(client,), daemon=True)
    ending.start()
    thread.join(30)
    hub.close()
    ending.join(30)
    assert not thread.is_alive()


def _serve_until_end(hub: Hub) -> None:
    with contextlib.suppress(SystemExit):
        serve_verbs(hub, VERBS)


def _ask_to_end(client: AdminClient) -> None:
    with pytest.raises(Busy):
        client.call("end")


def test_a_verb_knows_its_operator_and_gives_json(client: AdminClient) -> None:
    assert client.call("who") == {"uid": ME.uid, "name": ME.name}
    assert client.call("double", count=21) == 42


def test_an_error_of_a_verb_reaches_the_caller_as_it_was(client: AdminClient) -> None:
    with pytest.raises(Forbidden) as refused:
        client.call("forbid")
    assert refused.value.rule == "approver-key"
    with pytest.raises(BadInput) as bad:
        client.call("double", count=-1)
    assert bad.value.field == "count"
    with pytest.raises(NotFound, match="no verb 'nothing'"):
        client.call("nothing")


def test_a_fault_ends_neither_the_process_nor_shows_its_cause(
    client: AdminClient, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger="ostiary.admin"), pytest.raises(InternalFault) as fault:
        client.call("fail")
    assert SECRET not in fault.value.message
    assert client.call("double", count=1) == 2


def test_a_result_too_long_for_a_message_is_an_error_and_not_silence(client: AdminClient) -> None:
    with pytest.raises((BadInput, InternalFault)):
        client.call("long")
    assert client.call("double", count=1) == 2


def _next_raw(body: bytes) -> dict[str, int] | None:
    count = int(body[1:])
    return {"count": count + 1} if count < 5 else None


def test_bytes_are_sent_as_they_are(client: AdminClient) -> None:
    assert client.fetch("raw", count=7) == b"\x007"


def test_calls_follow_one_another_over_one_connection(client: AdminClient) -> None:
    assert list(client.follow("raw", {"count": 1}, _next_raw)) == [b"\x00%d" % n for n in range(1, 6)]


def test_calls_that_are_left_off_do_no_harm(client: AdminClient) -> None:
    following = client.follow("raw", {"count": 1}, _next_raw)
    assert next(following) == b"\x001"
    del following
    assert client.call("double", count=1) == 2


def test_an_error_ends_the_calls_that_follow(client: AdminClient) -> None:
    following = client.follow("raw", {"count": 1}, lambda _body: {"count": -1})
    assert next(following) == b"\x001"
    with pytest.raises(BadInput) as bad:
        next(following)
    assert bad.value.field == "count"


def test_a_service_that_went_away_is_busy(tmp_path: Path) -> None:
    with listen(tmp_path / "s", mode=0o600, gid=None) as listener:
        following = AdminClient(tmp_path / "s", service="ca").follow("raw", {}, _next_raw)
        # It takes the connection and the request in its backlog, and ends before it looks at them.
        threading.Thread(target=lambda: _accept(listener).close(), daemon=True).start()
        with pytest.raises(Busy, match="went away"):
            next(following)


def _accept(listener: socket.socket) -> socket.socket:
    listener.setblocking(True)
    return listener.accept()[0]


def test_without_a_socket_the_operator_learns_what_to_start(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="is `ostiary ca serve` running"):
        AdminClient(tmp_path / "s", service="ca").call("who")


@pytest.mark.parametrize(
    ("arguments", "field"),
    [({}, "count"), ({"count": "1"}, "count"), ({"count": -1}, "count"), ({"count": 1, "more": 1}, "more")],
)
def test_a_bad_argument_is_named(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as bad:
        arguments_of(arguments, Count)
    assert bad.value.field == field


def test_a_body_that_is_no_request_is_refused() -> None:
    status, body = answer_verb(VERBS, b"nonsense", ME)
    assert status is Status.REFUSED
    assert msgspec.json.decode(body)["kind"] == "bad-input"


def test_an_operator_without_an_account_is_named_by_number() -> None:
    nobody = PeerCredentials(pid=1, uid=4_000_000, gid=4_000_000)
    assert operator_of(nobody) == Operator(uid=4_000_000, name="4000000")
    assert operator_of(PeerCredentials(pid=1, uid=os.getuid(), gid=os.getgid())) == ME
