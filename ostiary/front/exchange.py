"""Between gunicorn's HTTP and an application: where an exchange begins and ends, and what HTTP demands of all
applications.

Rules:
- One for each connection; it tells that connection when a request's head was taken, when its body is whole
  and when its answer is complete. gunicorn serves the requests of a connection one after the other.
- A request of HTTP/1.1 without Host is refused (RFC 9112 section 3.2), and so is an expectation other than
  100-continue (RFC 9110 section 10.1.1).
- HEAD is answered wherever GET is, with GET's headers (RFC 9110 section 9.3.2).
- Another protocol (WebSocket) is refused.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol, TypeAlias

Message: TypeAlias = dict[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApplication: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_SERVER: Final = (b"server", b"ostiary")


class ExchangeObserver(Protocol):
    """What a connection wants to know of its exchanges."""

    def request_taken(self, *, content_length: int | None, is_chunked: bool) -> None: ...
    def body_taken(self) -> None: ...
    def answer_begins(self) -> None: ...
    def answer_complete(self) -> None: ...
    def refuse(self, status: int) -> None: ...


class Exchanges:
    """The ASGI application that gunicorn calls for one connection."""

    def __init__(self, application: ASGIApplication, observer: ExchangeObserver) -> None:
        self._application = application
        self._observer = observer

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        observer = self._observer
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        content_length, is_chunked, wrong = _framing(scope)
        observer.request_taken(content_length=content_length, is_chunked=is_chunked)
        if wrong:
            observer.refuse(wrong)
            return
        asks_head = scope["method"] == "HEAD"
        if asks_head:
            scope["method"] = "GET"
        await self._application(
            scope, _noting_receive(receive, observer), _noting_send(send, observer, asks_head=asks_head)
        )


def _noting_receive(receive: Receive, observer: ExchangeObserver) -> Receive:
    async def receive_noted() -> Message:
        message = await receive()
        if not message.get("more_body", False):
            observer.body_taken()
        return message

    return receive_noted


def _noting_send(send: Send, observer: ExchangeObserver, *, asks_head: bool) -> Send:
    async def send_noted(message: Message) -> None:
        is_start = message["type"] == "http.response.start"
        if is_start:
            message["headers"] = [*message["headers"], _SERVER]
            observer.answer_begins()
        elif asks_head:
            message["body"] = b""
        await send(message)
        if not is_start and not message.get("more_body", False):
            observer.answer_complete()

    return send_noted


def _framing(scope: Message) -> tuple[int | None, bool, int]:
    """Return a request's Content-Length, whether it is chunked, and the status to refuse it with (0: none).

    gunicorn has checked that the two do not contradict each other.
    """
    named = dict(scope["headers"])
    wrong = 0
    if not named.get(b"host") and scope["http_version"] == "1.1":
        wrong = 400
    elif named.get(b"expect", b"100-continue").lower() != b"100-continue":
        wrong = 417
    content_length = named.get(b"content-length")
    return (
        None if content_length is None else int(content_length),
        b"transfer-encoding" in named,
        wrong,
    )
