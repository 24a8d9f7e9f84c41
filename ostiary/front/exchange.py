"""Between gunicorn's HTTP and an application: where an exchange begins and ends, and what HTTP demands of all
applications.

Rules:
- One for each connection; it tells that connection when an answer begins and when it is complete. gunicorn
  serves the requests of a connection one after the other.
- HEAD is answered wherever GET is, with GET's headers (RFC 9110 section 9.3.2).
- Another protocol (WebSocket) is refused, although no request for one gets here (`ostiary.front.head`).
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

    def answer_begins(self) -> None: ...
    def answer_complete(self) -> None: ...


class Exchanges:
    """The ASGI application that gunicorn calls for one connection."""

    def __init__(self, application: ASGIApplication, observer: ExchangeObserver) -> None:
        self._application = application
        self._observer = observer

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await send({"type": "websocket.close"})
            return
        asks_head = scope["method"] == "HEAD"
        if asks_head:
            scope["method"] = "GET"
        noting = _noting_send(send, self._observer, asks_head=asks_head)
        await self._application(scope, _body_when_asked(receive), noting)


def _body_when_asked(receive: Receive) -> Receive:
    """Begin every body with nothing: falcon asks for its beginning before it knows who asks, and for what.

    So a client is let in before a byte of its body is awaited, and gets 100 (Continue) only then.
    """
    has_begun = False

    async def receive_when_asked() -> Message:
        nonlocal has_begun
        if has_begun:
            return await receive()
        has_begun = True
        return {"type": "http.request", "body": b"", "more_body": True}

    return receive_when_asked


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
