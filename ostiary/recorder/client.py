"""How an edge (front, admin, responder) asks the recorder for an act.

Rules:
- One item, one answer, before the edge's own deadline; a late answer is dropped, and the caller gets `Busy`.
  What was recorded by then stays in the ledger as an authorization; nothing of it was released.
- Make a client after the fork. Any number of threads may use a `RecorderClient`, the coroutines of one loop
  an `AsyncRecorderClient`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from ostiary.edge.channel import Answer, Client
from ostiary.edge.frame import Status
from ostiary.edge.place import Place
from ostiary.edge.users import RoleName
from ostiary.errors import Busy, InternalFault
from ostiary.work.answer import Recorded, decode_recorded, decode_refused, refusal_error
from ostiary.work.item import Item
from ostiary.work.item_encoding import encode_item

# Deadlines shrink along the way, so that nobody works for an asker who has given up (docs/architecture.md,
# "Channels"): a client waits for 10 s, a front for 2 s, an evaluation may take 0.1 s.
RECORDER_TIMEOUT_S = 1.0


class RecorderPort(Protocol):
    """The way to the recorder, as an edge's parts see it: `RecorderClient`, or a stand-in in tests."""

    def submit(self, item: Item) -> Recorded:
        """Have an item recorded and done; returns once both are. Raises as `RecorderClient.submit` does."""


class RecorderClient:
    """The edge's end of a recorder's channel."""

    def __init__(self, path: Path, *, expected_uids: frozenset[int]) -> None:
        self._client = Client(path, expected_uids=expected_uids)

    def submit(self, item: Item, *, timeout_s: float = RECORDER_TIMEOUT_S) -> Recorded:
        """Have an item recorded and done.

        Raises Forbidden (denied, and recorded as such), BadInput (not an item), Busy (nothing was released),
        InternalFault (the keyholder refused what was recorded: an alarm).
        """
        return _recorded(self._client.call(encode_item(item), timeout_s=timeout_s))

    def close(self) -> None:
        """End the connections."""
        self._client.close()


class AsyncRecorderPort(Protocol):
    """The same way for the parts of an edge that runs on an event loop."""

    async def submit(self, item: Item) -> Recorded:
        """Have an item recorded and done; returns once both are. Raises as `RecorderClient.submit` does."""


class AsyncRecorderClient:
    """The same end, for an event loop; make it on the loop."""

    def __init__(self, path: Path, *, expected_uids: frozenset[int]) -> None:
        # Here, because asyncio takes 7 MB, and the other edges have no loop.
        from ostiary.edge.async_channel import AsyncClient  # noqa: PLC0415 - see above

        self._client = AsyncClient(path, expected_uids=expected_uids)

    async def submit(self, item: Item, *, timeout_s: float = RECORDER_TIMEOUT_S) -> Recorded:
        """Have an item recorded and done; raises as `RecorderClient.submit` does."""
        return _recorded(await self._client.call(encode_item(item), timeout_s=timeout_s))

    def close(self) -> None:
        """End the connection; submissions that wait are `Busy`."""
        self._client.close()


def recorder_client(place: Place, channel: str) -> RecorderClient:
    """An edge's way to the recorder; make it after fork."""
    recorder_uid = place.users.uid(RoleName.RECORDER)
    return RecorderClient(place.home.channel(channel), expected_uids=frozenset({recorder_uid}))


def async_recorder_client(place: Place, channel: str) -> AsyncRecorderClient:
    """The same for an edge's event loop; make it on the loop."""
    recorder_uid = place.users.uid(RoleName.RECORDER)
    return AsyncRecorderClient(place.home.channel(channel), expected_uids=frozenset({recorder_uid}))


def _recorded(answer: Answer) -> Recorded:
    """What an answer says, or the error that it stands for."""
    if answer.status is Status.BUSY:
        raise Busy("the recorder is busy or its keyholder is away")
    try:
        if answer.status is Status.OK:
            return decode_recorded(answer.body)
        refused = decode_refused(answer.body)
    except msgspec.MsgspecError as exc:
        raise InternalFault("malformed recorder response") from exc
    raise refusal_error(refused)
