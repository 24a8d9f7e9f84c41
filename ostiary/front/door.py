"""What the connections of a worker share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ostiary.front.room import Room
from ostiary.front.tls import FrontTLS

if TYPE_CHECKING:
    from ostiary.front.connection import FrontConnection
    from ostiary.front.http_side import HTTPSide


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """See the module's docstring.

    `tls` is asked once for each connection, and returns the current settings; None serves plain connections.
    `serve` makes gunicorn's protocol for a connection and connects it to its `HTTPSide`. `clock` is
    monotonic, in seconds; every `answer_s` a client that reads slowly must have taken enough.
    """

    room: Room[FrontConnection]
    tls: Callable[[], FrontTLS] | None
    max_head_bytes: int
    max_line_bytes: int
    answer_s: float
    clock: Callable[[], float]
    serve: Callable[[FrontConnection], HTTPSide]
