"""The life of one request in the front, from a checked request to what its formula released (docs/signing.md,
steps 3-11).

Each stage gives a value of a type of its own, which only the next one takes; no stage calls an earlier one.

- A refusal is recorded before the caller hears of it, and is never made on what was replaced meanwhile: what
  has moved since it was read is read again, and the request tried once more. `Moved` a second time is Busy.
"""

from __future__ import annotations

from credsvc.front.requests import SignRequest
from credsvc.front.stages import Explained, Moved, Released, Stages


class Pipeline:
    """See the module's docstring."""

    def __init__(self, stages: Stages) -> None:
        self._stages = stages

    def use(self, request: SignRequest) -> Released:
        """Sign: Forbidden names the rule, BadInput the hole or member, Busy says that nothing was
        released.
        """
        try:
            return self._use(request)
        except Moved:
            return self._use(request)

    def _use(self, request: SignRequest) -> Released:
        attempt = self._stages.attempt(request)  # 3. the first decision: could policy allow this at all?
        proposal = self._stages.propose(attempt)  # 4. the sandbox fills the holes
        filled = self._stages.check(proposal)  # 5. their types, ceiling and time ...
        granted = self._stages.decide(filled)  #    ... and the second decision, on what will really be signed
        recorded = self._stages.record(granted)  # 6-10. recorded first, then evaluated
        return self._stages.release(recorded)  # 11.

    def explain(self, request: SignRequest) -> Explained:
        """Steps 3 to 5: what would be signed; nothing is, and only a refusal is recorded."""
        try:
            return self._explain(request)
        except Moved:
            return self._explain(request)

    def _explain(self, request: SignRequest) -> Explained:
        proposal = self._stages.propose(self._stages.attempt(request))
        return self._stages.explain(self._stages.decide(self._stages.check(proposal)))
