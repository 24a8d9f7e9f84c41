"""The life of one request in the front, from a checked request to what its formula released (docs/signing.md,
steps 3 to 11; the numbers below are those).

Each stage gives a value of a type of its own, which only the next one takes; no stage calls an earlier one.

A refusal is recorded before the caller hears of it, and is never made on what was replaced meanwhile: what
has moved since it was read is read again, and the request is tried once more. A second `Moved` is Busy.
"""

from __future__ import annotations

from credsvc.front.requests import SignRequest
from credsvc.front.stages import Explained, Granted, Moved, Released, Stages


class Pipeline:
    """See the module's docstring."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    async def sign(self, request: SignRequest) -> Released:
        """Apply the operation: Forbidden names the rule, BadInput the hole or member, Busy says that nothing
        was released.
        """
        try:
            return await self._sign(request)
        except Moved:
            return await self._sign(request)

    async def _sign(self, request: SignRequest) -> Released:
        granted = await self._grant(request)  # 3 to 5.
        recorded = await self._stages.record(granted)  # 6 to 10. recorded first, then evaluated
        return self._stages.release(recorded)  # 11.

    async def explain(self, request: SignRequest) -> Explained:
        """Steps 3 to 5: show what would be signed. Nothing is signed, and only a refusal is recorded."""
        try:
            return self._stages.explain(await self._grant(request))
        except Moved:
            return self._stages.explain(await self._grant(request))

    async def _grant(self, request: SignRequest) -> Granted:
        attempt = await self._stages.attempt(
            request
        )  # 3. the first decision: could policy allow this at all?
        proposal = await self._stages.propose(attempt)  # 4. the sandbox fills the holes
        filled = await self._stages.check(proposal)  # 5. their types, ceiling and time ...
        return await self._stages.grant(
            filled
        )  #    ... and the second decision, on what will really be signed
