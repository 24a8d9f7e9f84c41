"""The command line's end of an admin process, without the process: verbs are called where they are.

`ostiary.admin.client` is the real one; tests/ostiary/admin/test_server.py tests it over its socket.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from ostiary.admin.client import Arguments


class AdminInProcess:
    """Has the methods of an AdminClient; a subclass answers."""

    def answer(self, verb: str, arguments: dict[str, Any]) -> Any:
        """Return JSON values, or bytes that are sent as they are."""
        raise NotImplementedError

    def call(self, verb: str, **arguments: Any) -> Any:
        return msgspec.json.decode(self.fetch(verb, **arguments))

    def fetch(self, verb: str, **arguments: Any) -> bytes:
        result = self.answer(verb, arguments)
        return result if isinstance(result, bytes) else msgspec.json.encode(result)

    def follow(
        self, verb: str, arguments: Arguments, following: Callable[[bytes], Arguments | None]
    ) -> Iterator[bytes]:
        wanted: Arguments | None = arguments
        while wanted is not None:
            body = self.fetch(verb, **wanted)
            wanted = following(body)
            yield body
