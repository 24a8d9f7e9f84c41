"""The host's pool of sandbox workers: run a module's entry on arguments, get a proposal of holes.

Rules:
- A worker serves one module version and one request at a time, and runs one call at a time; it is taken, used
  and given back, or ended (`workers`).
- It is ended after any violation: deadline, crash, refused or unsolicited bytes, exhaustion.
- The number of workers is bounded; when all are busy a call waits, up to its deadline, and so is the number
  of calls that wait.
- One deadline covers waiting, making a worker, loading and running. SIGKILL enforces it, through the zygote.
- What comes back is hostile: `frames` and `decode` read it. Errors are `faults`, one constant text for each
  kind.
- A caller that is cancelled leaves at once. What it asked runs on to its answer or its deadline, and only
  then is the worker used again or ended: so nobody gets another's answer, and callers that come and go cost
  no worker.
- A request may carry many calls: a batch of one caller, or quick calls of several that come at the same time
  (`gather`). Each has globals and a time of its own, its own answer and its own fault.

For one event loop, on whose thread everything is called, without a thread or a wait of its own; a pool must
not be shared by two processes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from credsvc.sandbox.client.batch import Batch
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxFault, SourceRefused, fault
from credsvc.sandbox.client.gather import LEARN_EVERY, Call, Crowd
from credsvc.sandbox.client.link import Link
from credsvc.sandbox.client.messages import encode_arguments, encode_call, read_call
from credsvc.sandbox.client.workers import CHECKED, LoadedModule, ModuleDigest, Workers
from credsvc.sandbox.frames import Kind

__all__ = ["LoadedModule", "ModuleDigest", "SandboxPool"]

# Of the worker's time on a CPU. Modules take a thousandth of it.
ITEM_S: Final = 0.02
# Of as many entries it is remembered how quick they are.
_MAX_CROWDS: Final = 256
_CHECK_S: Final = 5.0


class SandboxPool:
    """See the module's docstring."""

    def __init__(self, control_path: Path, *, max_workers: int) -> None:
        self._workers = Workers(control_path, max_workers=max_workers)
        self._crowds: dict[tuple[str, str], Crowd] = {}
        self._groups: set[asyncio.Task[None]] = set()

    async def run(
        self, module: LoadedModule, entry: str, arguments: Mapping[str, Any], deadline_s: float
    ) -> HoleProposal:
        """Call `entry(**arguments)` of the module, at most `deadline_s` from now; raises `SandboxFault`."""
        deadline = asyncio.get_running_loop().time() + deadline_s
        item = encode_arguments(arguments)
        crowd = self._crowd(module, entry)
        if crowd.holds(item):
            answer = await crowd.wait(item, deadline)
            if isinstance(answer, SandboxFault):
                raise answer
            if answer is not None:
                return answer
            return await self._run_alone(module, encode_call(entry, item), deadline)
        request = encode_call(entry, item)
        entered = crowd.enter()
        try:
            return await self._run_alone(module, request, deadline, crowd=crowd)
        finally:
            crowd.leave(entered)

    async def run_many(
        self, module: LoadedModule, entry: str, arguments: Sequence[Mapping[str, Any]], deadline_s: float
    ) -> list[HoleProposal | SandboxFault]:
        """Call `entry` once for each of the arguments, all of it at most `deadline_s` from now; each has
        `ITEM_S`.

        An item's fault stands in the place of its proposal and is no other's. What a worker left unanswered
        when it had to be ended, the item among it that was the reason, is run again, once, each item alone
        and on another worker. Raises `SandboxFault` where there was no worker to begin with.
        """
        deadline = asyncio.get_running_loop().time() + deadline_s
        batch = Batch(entry, [encode_arguments(each) for each in arguments])
        if batch.rest:
            await self._run_together(module, batch, deadline)
        for number in tuple(batch.rest):
            try:
                request = batch.request(number)
                batch.settle(number, await self._run_alone(module, request, deadline, item_s=ITEM_S))
            except SandboxFault as exc:
                batch.settle(number, fault(exc.fault))
        return batch.results

    async def check_source(self, source: str) -> None:
        """Compile a source inside a worker of its own, and run its top level once.

        Raises `SourceRefused` with a reason and a line, or `SandboxFault` (a source that never ends, or ends
        its worker).
        """
        deadline = asyncio.get_running_loop().time() + _CHECK_S
        link = await self._workers.take(LoadedModule(digest=CHECKED, source=source), deadline)
        await asyncio.shield(self._workers.end(link))

    async def close(self) -> None:
        """End all workers; a call in flight, or that waits, is told that the sandbox is not there."""
        for crowd in self._crowds.values():
            crowd.go()
        await self._workers.close()

    async def _take(self, module: LoadedModule, deadline: float) -> Link:
        try:
            return await self._workers.take(module, deadline)
        except SourceRefused as exc:  # a module that was loaded and approved: not the caller's doing
            raise fault(Fault.NOT_LOADED) from exc

    async def _run_alone(
        self,
        module: LoadedModule,
        request: bytes,
        deadline: float,
        *,
        item_s: float | None = None,
        crowd: Crowd | None = None,
    ) -> HoleProposal:
        if asyncio.get_running_loop().time() >= deadline:
            raise fault(Fault.TIMEOUT)  # and spare the worker that could only be killed
        link = await self._take(module, deadline)
        proposal = await self._workers.ask(link, Kind.CALL, request, deadline, read_call, item_s=item_s)
        if crowd is not None and link.calls % LEARN_EVERY == 0:
            crowd.learn(link.pace_s())
        self._workers.give_back(link)
        return proposal

    async def _run_together(
        self, module: LoadedModule, batch: Batch, deadline: float, *, crowd: Crowd | None = None
    ) -> None:
        """Run what is left of a batch on one worker, as far as it comes."""
        link = await self._take(module, deadline)
        while batch.rest:
            pace_s = link.pace_s()
            if crowd is not None:
                crowd.learn(pace_s)
            body, count = batch.next_request(pace_s=pace_s)
            try:
                await self._workers.ask(
                    link, Kind.CALL, body, deadline, batch.take_all, count=count, item_s=ITEM_S
                )
            except SandboxFault:
                batch.take(link.replies)
                return
        self._workers.give_back(link)

    # Calls of several callers in one request.

    def _crowd(self, module: LoadedModule, entry: str) -> Crowd:
        crowd = self._crowds.get((module.digest, entry))
        if crowd is None:
            if len(self._crowds) >= _MAX_CROWDS:
                self._crowds = {key: each for key, each in self._crowds.items() if not each.is_empty}
            crowd = self._crowds[module.digest, entry] = Crowd(partial(self._start_group, module, entry))
        return crowd

    def _start_group(self, module: LoadedModule, entry: str, crowd: Crowd, calls: Sequence[Call]) -> None:
        entered = crowd.enter()
        group = asyncio.get_running_loop().create_task(self._run_group(module, entry, crowd, calls))
        self._groups.add(group)
        group.add_done_callback(self._groups.discard)
        group.add_done_callback(lambda _group: crowd.leave(entered))

    async def _run_group(self, module: LoadedModule, entry: str, crowd: Crowd, calls: Sequence[Call]) -> None:
        deadline = min(call.deadline for call in calls)
        batch = Batch(entry, [call.item for call in calls])
        try:
            await self._run_together(module, batch, deadline, crowd=crowd)
        except SandboxFault as exc:  # there was no worker
            for call in calls:
                has_time = exc.fault is Fault.FULL and call.deadline > deadline
                call.settle(None if has_time else fault(exc.fault))
        finally:
            for number, call in enumerate(calls):
                call.settle(None if number in batch.rest else batch.results[number])
