"""What an exchange tells its connection, and what HTTP demands of all applications."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from ostiary.front.exchange import Exchanges, Message, Receive, Send


@dataclass
class Observer:
    """Keeps what it is told, in order."""

    told: list[Any] = field(default_factory=list)

    def answer_begins(self) -> None:
        self.told.append("begins")

    def answer_complete(self) -> None:
        self.told.append("complete")


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Answer with the method and the body."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message["body"], message.get("more_body", False)
    answer = scope["method"].encode() + b" " + body
    await send(
        {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(answer))]}
    )
    await send({"type": "http.response.body", "body": answer})


def exchange(
    *headers: tuple[bytes, bytes], method: str = "POST", kind: str = "http"
) -> tuple[list[Any], list[Message]]:
    observer, sent = Observer(), list[Message]()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"hello", "more_body": False}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": kind, "method": method, "http_version": "1.1", "headers": list(headers)}
    asyncio.run(Exchanges(echo, observer)(scope, receive, send))
    return observer.told, sent


HOST = (b"host", b"x")


def test_a_connection_is_told_of_each_step() -> None:
    told, sent = exchange(HOST, (b"content-length", b"5"))
    assert told == ["begins", "complete"]
    assert sent[1]["body"] == b"POST hello"
    assert (b"server", b"ostiary") in sent[0]["headers"]


def test_head_is_get_without_the_body() -> None:
    _, sent = exchange(HOST, method="HEAD")
    assert sent[1]["body"] == b""
    assert (b"content-length", b"9") in sent[0]["headers"], "as GET hello would have"


def test_another_protocol_is_refused() -> None:
    assert exchange(HOST, kind="websocket") == ([], [{"type": "websocket.close"}])
