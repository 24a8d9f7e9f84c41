"""Many calls of one entry: which request carries which item, and whose answer is whose. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Final

from credsvc.sandbox import frames
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxFault, fault
from credsvc.sandbox.client.messages import Reply, encode_items, read_reply

__all__ = ["Batch"]

Result = HoleProposal | SandboxFault

# Each record wakes the host, which costs as much as half a call does; so answers of this much work share one.
# Far below the time of an item: those in a record with one that runs away have to be run again.
_GATHER_S: Final = 0.002
_MOST_GATHERED: Final = 16


class Batch:
    """Items (JSON of arguments) are known by their number; `rest` are those without an answer, in order."""

    def __init__(self, entry: str, items: Sequence[bytes]) -> None:
        self.rest: dict[int, bytes] = {}
        # Of an item that is in `rest`, what it is if nobody ever says.
        self.results: list[Result] = [fault(Fault.TIMEOUT)] * len(items)
        self._entry = entry
        self._room = frames.MAX_REQUEST_BYTES - frames.HEADER_BYTES - len(encode_items(entry, []))
        for number, item in enumerate(items):
            if len(item) + 1 > self._room:
                self.results[number] = fault(Fault.REQUEST_TOO_LARGE)
            else:
                self.rest[number] = item

    def request(self, number: int) -> bytes:
        """Return the body of a request of one item."""
        return encode_items(self._entry, [self.rest[number]])

    def next_request(self, *, pace_s: float) -> tuple[bytes, int]:
        """Return the body of a request of as many of the rest as fit, and how many; the worker takes `pace_s`
        for one.
        """
        room, count = self._room, 0
        for item in self.rest.values():
            room -= len(item) + 1  # and the line end before it
            if room < 0:
                break
            count += 1
        gathered = min(_MOST_GATHERED, max(1, int(_GATHER_S / pace_s))) if pace_s > 0 else _MOST_GATHERED
        return encode_items(self._entry, list(islice(self.rest.values(), count)), gathered=gathered), count

    def take(self, replies: Sequence[Reply]) -> None:
        """Take answers to the first of the rest."""
        for number, reply in zip(tuple(islice(self.rest, len(replies))), replies, strict=True):
            try:
                self.settle(number, read_reply(*reply))
            except SandboxFault as exc:
                self.settle(number, fault(exc.fault))

    def take_all(self, replies: Sequence[Reply]) -> None:
        """Take answers; raises a `SandboxFault` of an item after which its worker must be ended."""
        numbers = tuple(islice(self.rest, len(replies)))
        self.take(replies)
        for number in numbers:
            result = self.results[number]
            if isinstance(result, SandboxFault) and result.fault is not Fault.MODULE_RAISED:
                raise result

    def settle(self, number: int, result: Result) -> None:
        """Say what became of an item."""
        self.results[number] = result
        del self.rest[number]
