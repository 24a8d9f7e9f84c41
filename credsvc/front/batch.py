"""Many uses of one operation of one credential, asked for in one call (docs/signing.md, "Batches").

Rules:
- Each item is counted against its caller's pace, allowed, refused and recorded by itself, by the stages that
  a single use passes; what comes of it stands in its place, and an item's failure is no other's.
- The items share one turn of the sandbox. Those whose holes are filled go to the recorder side by side, so
  that it gathers them in its turns, but at most `IN_FLIGHT` of a worker's at once: single uses keep their
  place in the channel.
- An answer that could be larger than `MAX_ANSWER_BYTES` is refused before anything of it is recorded.
- What moved while it was decided on is tried once more, as for a single use.
- Nothing here works for long without letting the event loop's other work have its turn.

The plan of `Batches.sign` (the numbers of docs/signing.md in brackets):
1. Each request is bounded, as a single one is [2], and counted against the pace [1].
2. The first decision on each [3].
3. One turn of the sandbox for all [4], then types, ceiling and time of each [5].
4. The size of the answer.
5. The second decision on each [5], then record and evaluation side by side [6 to 11].
6. What moved meanwhile takes 2 to 5 once more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeVar

from credsvc.formula.release_size import bound_release
from credsvc.front.catalog import Subject
from credsvc.front.requests import SignRequest
from credsvc.front.stages import Attempt, Filled, Moved, Proposal, Released, Stages
from ostiary.errors import BadInput

A = TypeVar("A")
B = TypeVar("B")

MAX_ANSWER_BYTES: Final = 1 << 20
IN_FLIGHT: Final = 128
"""Uses of batches at the recorder, per worker: enough for its turns to be full."""
SLICE_S: Final = 0.002
_TOGETHER: Final = 16
# What stands around a release in the answer: names of formula and rule, the entry's index; and a problem.
_AROUND_BYTES: Final = 512
_PROBLEM_BYTES: Final = 1024

Outcome = Released | Exception


class Batches:
    """See the module's docstring. One per worker, for its loop alone."""

    def __init__(self, stages: Stages, *, monotonic_s: Callable[[], float]) -> None:
        self._stages = stages
        self._monotonic_s = monotonic_s
        self._in_flight = asyncio.Semaphore(IN_FLIGHT)

    async def sign(self, requests: Sequence[A], check: Callable[[A], SignRequest]) -> list[Outcome]:
        """What came of each request, in order: what was released, or the exception that a single use would
        have raised.

        `check` crosses from untrusted to checked, and raises where the caller asks too often. Raises
        BadInput(field=requests) where the answer would be too large.
        """
        turn = _Turn(self._monotonic_s)
        asked = await turn.each(dict(enumerate(requests)), _awaited(check))  # 1.
        await self._take(turn, asked)
        if moved := turn.moved():  # 6.
            await self._take(turn, {number: asked[number] for number in moved})
        return [turn.outcomes[number] for number in range(len(requests))]

    async def _take(self, turn: _Turn, requests: Mapping[int, SignRequest]) -> None:
        """Bring these items to their ends."""
        attempts = await turn.each(requests, self._stages.attempt)  # 2.
        proposals = await self._propose(turn, attempts)  # 3.
        filled = await turn.each(proposals, self._stages.check)
        self._check_size(turn, filled)  # 4.
        await turn.side_by_side(filled, self._finish)  # 5.

    async def _propose(self, turn: _Turn, attempts: Mapping[int, Attempt]) -> dict[int, Proposal]:
        if not attempts:
            return {}
        # They differ where the store was read again in between.
        subject = next(iter(attempts.values())).subject
        together = {number: each for number, each in attempts.items() if _is_same(each.subject, subject)}
        for number in attempts.keys() - together.keys():
            turn.outcomes[number] = Moved("the credential changed meanwhile: try again")
        results = await self._stages.propose_many(list(together.values()))
        proposals = {}
        for number, result in zip(together, results, strict=True):
            if isinstance(result, Proposal):
                proposals[number] = result
            else:
                turn.outcomes[number] = result
        return proposals

    def _check_size(self, turn: _Turn, filled: Mapping[int, Filled]) -> None:
        total = _PROBLEM_BYTES * len(turn.outcomes)
        for each in filled.values():
            subject = each.attempt.subject
            total += _AROUND_BYTES + bound_release(
                subject.module.manifest, each.holes, shareable=subject.credential.shareable
            )
        if total > MAX_ANSWER_BYTES:
            raise BadInput(
                f"the answer could have more than {MAX_ANSWER_BYTES} bytes: ask for fewer at once",
                field="requests",
            )

    async def _finish(self, filled: Filled) -> Released:
        async with self._in_flight:
            granted = await self._stages.grant(filled)
            return self._stages.release(await self._stages.record(granted))


def _is_same(one: Subject, other: Subject) -> bool:
    return one is other or one.versions == other.versions


def _awaited(check: Callable[[A], B]) -> Callable[[A], Awaitable[B]]:
    async def step(item: A) -> B:
        return check(item)

    return step


class _Turn:
    """The items of one batch on their way: those that have come to their end, by number."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self.outcomes: dict[int, Outcome] = {}
        self._monotonic_s = monotonic_s
        self._until_s = monotonic_s() + SLICE_S

    def moved(self) -> list[int]:
        """Take back the items that are to be tried once more."""
        found = [number for number, outcome in self.outcomes.items() if isinstance(outcome, Moved)]
        for number in found:
            del self.outcomes[number]
        return found

    async def each(self, items: Mapping[int, A], step: Callable[[A], Awaitable[B]]) -> dict[int, B]:
        """Take a step with each item, one after the other; return those that go on."""
        going_on = {}
        for number, item in items.items():
            try:
                going_on[number] = await step(item)
            # Whatever one item runs into is its own outcome; the answer tells a fault as one of ours.
            except Exception as exc:  # noqa: BLE001
                self.outcomes[number] = exc
            await self._let_others()
        return going_on

    async def side_by_side(self, items: Mapping[int, A], step: Callable[[A], Awaitable[Released]]) -> None:
        """Take the last step with all items at once."""
        async with asyncio.TaskGroup() as group:
            for count, (number, item) in enumerate(items.items(), 1):
                group.create_task(self._end(number, step(item)))
                # They all take their first steps in one turn of the loop, about 50 us each.
                if count % _TOGETHER == 0:
                    await asyncio.sleep(0)

    async def _end(self, number: int, step: Awaitable[Released]) -> None:
        try:
            self.outcomes[number] = await step
        except Exception as exc:  # noqa: BLE001 - as in `each`
            self.outcomes[number] = exc

    async def _let_others(self) -> None:
        if self._monotonic_s() >= self._until_s:
            await asyncio.sleep(0)
            self._until_s = self._monotonic_s() + SLICE_S
