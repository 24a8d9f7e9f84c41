"""What an exchange tells its connection, and what HTTP demands before an application is asked."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import pytest

from ostiary.front.exchange import Exchanges, Message, Receive, Send


@dataclass
class Observer:
    """Keeps what it is told, in order."""

    told: list[Any] = field(default_factory=list)

    def request_taken(self, *, content_length: int | None, is_chunked: bool) -> None:
        self.told.append(("request", content_length, is_chunked))

    def body_taken(self) -> None:
        self.told.append("body")

    def answer_begins(self) -> None:
        self.told.append("begins")

    def answer_complete(self) -> None:
        self.told.append("complete")

    def refuse(self, status: int) -> None:
        self.told.append(status)


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answer with the method and the body."""
    body = (await receive())["body"]
    answer = scope["method"].encode() + b" " + body
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
    )
    await send({"type": "http.response.body", "body": answer})


def exchange(
    *headers: tuple[bytes, bytes], method: str = "POST", version: str = "1.1", kind: str = "http"
) -> tuple[list[Any], list[Message]]:
    observer, sent = Observer(), list[Message]()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"hello", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": kind, "method": method, "http_version": version, "headers": list(headers)}
    asyncio.run(Exchanges(echo, observer)(scope, receive, send))
    return observer.told, sent


HOST = (b"host", b"x")


def test_a_connection_is_told_of_each_step() -> None:
    told, sent = exchange(HOST, (b"content-length", b"5"))
    assert told == [("request", 5, False), "body", "begins", "complete"]
    assert sent[1]["body"] == b"POST hello"
    assert (b"server", b"ostiary") in sent[0]["headers"]


def test_a_chunked_body_has_no_length() -> None:
    assert exchange(HOST, (b"transfer-encoding", b"chunked"))[0][0] == ("request", None, True)


def test_head_is_get_without_the_body() -> None:
    _, sent = exchange(HOST, method="HEAD")
    assert sent[1]["body"] == b""
    assert (b"content-length", b"9") in sent[0]["headers"], "as GET hello would have"


@pytest.mark.parametrize(
    ("headers", "version", "status"),
    [
        pytest.param([], "1.1", 400, id="no host"),
        pytest.param([(b"host", b"")], "1.1", 400, id="empty host"),
        pytest.param([HOST, (b"expect", b"200-ok")], "1.1", 417, id="another expectation"),
    ],
)
def test_what_http_forbids_reaches_no_application(
    headers: list[tuple[bytes, bytes]], version: str, status: int
) -> None:
    told, sent = exchange(*headers, version=version)
    assert told[1:] == [status]
    assert sent == []


def test_http_1_0_needs_no_host_and_100_continue_is_expected() -> None:
    assert exchange(version="1.0")[0][-1] == "complete"
    assert exchange(HOST, (b"expect", b"100-Continue"))[0][-1] == "complete"


def test_another_protocol_is_refused() -> None:
    assert exchange(HOST, kind="websocket") == ([], [{"type": "websocket.close"}])
