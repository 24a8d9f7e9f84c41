"""The stages of `credsvc.front.pipeline`, each over a port: catalog, sandbox, recorder, clock.

    SignRequest -> Attempt -> Proposal -> Filled -> Granted -> RecordedUse -> Released

Rules:
- A `Denial` becomes a recorded refusal, in one place (`_refuse`); so does a value outside of a credential's
  ceiling.
- Nobody is refused on what was replaced meanwhile: before a refusal the catalog looks again (`Moved`).
- Guessable operations (`credsvc.policy.schema`) have a pace.
- Each stage that needs the clock asks it once; the keyholder asks its own again.
- The times of policy, sandbox and recorder (which includes the keyholder) are measured here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn, Protocol

import msgspec

from credsvc.formula.explain import explain
from credsvc.formula.holes import FilledHoles, check_holes
from credsvc.formula.injected import build_clock
from credsvc.front.catalog import Subject
from credsvc.front.doorkeeper import Refuser
from credsvc.front.requests import SignRequest
from credsvc.items import Use
from credsvc.policy.decision import Denial
from credsvc.policy.schema import action_name
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import SandboxFault
from credsvc.sandbox.client.pool import LoadedModule
from ostiary.edge.clock import Clock
from ostiary.edge.metrics import Metrics
from ostiary.errors import Busy, Forbidden, InternalFault
from ostiary.front.http import check_pace
from ostiary.front.limits import Buckets, Limit
from ostiary.recorder.client import AsyncRecorderPort

SANDBOX_DEADLINE_S: Final = 0.8
"""Within the front's 2 s, and leaving the recorder its own second."""
SANDBOX_BATCH_DEADLINE_S: Final = 1.0
"""Of all items of a batch (`credsvc.front.batch`)."""
GUESSABLE: Final = Limit(rate_per_s=20, burst=200)
"""Of one credential per worker, where a password can be guessed from what is released: enough for any
provider, little for a dictionary.
"""
# Of the digest of the holes that the ledger keeps: without it, who reads the ledger could try out holes.
SALT_BYTES: Final = 16
STAGES: Final = ("request", "policy", "sandbox", "recorder")
_outputs = msgspec.msgpack.Decoder(dict[str, str])


class CatalogPort(Protocol):
    """What is known of the store; at most a second old."""

    async def find(self, credential: str) -> Subject | None: ...
    async def has_moved(self, credential: str, seen: Subject | None) -> bool: ...
    async def look_again(self, credential: str) -> None: ...


class SandboxPort(Protocol):
    """Runs a module's entry; raises SandboxFault, within the deadline."""

    async def run(
        self, module: LoadedModule, entry: str, arguments: Mapping[str, Any], deadline_s: float
    ) -> HoleProposal: ...

    async def run_many(
        self, module: LoadedModule, entry: str, arguments: Sequence[Mapping[str, Any]], deadline_s: float
    ) -> list[HoleProposal | SandboxFault]:
        """Raises SandboxFault where no item could run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """What the stages ask the world for; `random` gives that many bytes."""

    catalog: CatalogPort
    sandbox: SandboxPort
    recorder: AsyncRecorderPort
    refuser: Refuser
    clock: Clock
    random: Callable[[int], bytes]
    metrics: Metrics


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A request that some context might allow, and what it is about."""

    request: SignRequest
    subject: Subject
    action: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What the module wants to fill in; `proposed` is hostile until it is checked."""

    attempt: Attempt
    proposed: HoleProposal


@dataclass(frozen=True, slots=True, kw_only=True)
class Filled:
    """Holes within their types, the credential's ceiling and this process's time.

    `proposed` is what the module said: the keyholder gets that, and fills the holes from it again by itself.
    """

    attempt: Attempt
    proposed: HoleProposal
    holes: FilledHoles


@dataclass(frozen=True, slots=True, kw_only=True)
class Granted:
    """Allowed by the policy rule with this id."""

    attempt: Attempt
    proposed: HoleProposal
    holes: FilledHoles
    rule: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedUse:
    """In the ledger as the entry with this index; `outputs` is what the keyholder released (msgpack)."""

    formula: str
    rule: str
    index: int
    outputs: bytes


class Moved(Busy):
    """What the request was decided on was replaced meanwhile, and the catalog knows the new. The caller sees
    it only when it happens twice, as Busy.
    """


class Released(msgspec.Struct, frozen=True, kw_only=True):
    """The answer: text for each sink, and where its record is."""

    release: dict[str, str]
    formula: str
    entry: int
    rule: str


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """What would be signed: the holes as the module filled them, and every binding that no secret
    is part of.
    """

    formula: str
    holes: Mapping[str, Any]
    bindings: dict[str, str]
    rule: str


class Stages:
    """See the module's docstring."""

    def __init__(self, ports: Ports) -> None:
        self._ports = ports
        self._guessable = Buckets(GUESSABLE)

    async def attempt(self, request: SignRequest) -> Attempt:
        """Find what the request is about; refuse what no context could allow."""
        subject = await self._ports.catalog.find(request.credential)
        if subject is None:
            await self._refuse(
                request, None, "credential-unknown", f"there is no credential '{request.credential}'"
            )
        if subject.credential.disabled:
            await self._refuse(
                request, subject, "credential-disabled", f"the credential '{request.credential}' is disabled"
            )
        manifest = subject.module.manifest
        if request.operation not in manifest.operations:
            await self._refuse(
                request,
                subject,
                "operation-unknown",
                f"the credential '{request.credential}' has no operation '{request.operation}'",
            )
        action = action_name(manifest.name, request.operation)
        # Policy looks twice. Here it sees no context, so it refuses only what no context could allow: nobody
        # whom it would refuse anyway gets to run a module's code.
        with self._ports.metrics.stage("policy"):
            decision = subject.judge.preview(request.agent, action, subject.credential.entity)
        if isinstance(decision, Denial):
            await self._refuse(request, subject, decision.rule, decision.reason)
        return Attempt(request=request, subject=subject, action=action)

    async def propose(self, attempt: Attempt) -> Proposal:
        """Have the module fill the holes; it sees public fields only."""
        request, subject = attempt.request, attempt.subject
        arguments = self._arguments(attempt, self._clock_of_module())
        with self._ports.metrics.stage("sandbox"):
            proposed = await self._ports.sandbox.run(
                subject.module.code, request.operation, arguments, SANDBOX_DEADLINE_S
            )
        return Proposal(attempt=attempt, proposed=proposed)

    async def propose_many(self, attempts: Sequence[Attempt]) -> list[Proposal | SandboxFault]:
        """The same for attempts at one operation of one subject; each has an outcome of its own."""
        request, subject = attempts[0].request, attempts[0].subject
        clock = self._clock_of_module()
        arguments = [self._arguments(attempt, clock) for attempt in attempts]
        try:
            with self._ports.metrics.stage("sandbox"):
                results = await self._ports.sandbox.run_many(
                    subject.module.code, request.operation, arguments, SANDBOX_BATCH_DEADLINE_S
                )
        except SandboxFault as exc:
            return [exc] * len(attempts)
        return [
            result if isinstance(result, SandboxFault) else Proposal(attempt=attempt, proposed=result)
            for attempt, result in zip(attempts, results, strict=True)
        ]

    def _clock_of_module(self) -> Mapping[str, int | str]:
        # The sandbox has no clock; what the module takes as "now" is checked in `check` and again by the
        # keyholder, each by its own.
        return build_clock(int(self._ports.clock.now().timestamp()))

    def _arguments(self, attempt: Attempt, clock: Mapping[str, int | str]) -> dict[str, Any]:
        return {
            "request": attempt.request.request,
            "credential": attempt.subject.credential.shareable,
            "clock": clock,
        }

    async def check(self, proposal: Proposal) -> Filled:
        """Check types, ceiling and time, for a good error now; the keyholder checks again."""
        attempt, proposed = proposal.attempt, proposal.proposed
        request, subject = attempt.request, attempt.subject
        try:
            holes = check_holes(
                subject.module.manifest,
                proposed.formula,
                proposed.holes,
                operation=request.operation,
                now=self._ports.clock.now(),
                ceiling=subject.credential.ceiling,
            )
        except Forbidden as refusal:
            await self._refuse(request, subject, refusal.rule, refusal.message)
        return Filled(attempt=attempt, proposed=proposed, holes=holes)

    async def grant(self, filled: Filled) -> Granted:
        """Have policy decide on what will really be signed."""
        attempt, holes = filled.attempt, filled.holes
        request, subject = attempt.request, attempt.subject
        with self._ports.metrics.stage("policy"):
            decision = subject.judge.decide(
                request.agent, attempt.action, subject.credential.entity, holes.context
            )
        if isinstance(decision, Denial):
            await self._refuse(request, subject, decision.rule, decision.reason)
        return Granted(attempt=attempt, proposed=filled.proposed, holes=holes, rule=decision.rule)

    async def record(self, granted: Granted) -> RecordedUse:
        """Have the use recorded, then done."""
        attempt, proposed = granted.attempt, granted.proposed
        request, subject = attempt.request, attempt.subject
        # Only here: `explain` releases nothing that a password could be tried against.
        if subject.judge.is_guessable(attempt.action):
            check_pace(self._guessable.take(request.credential, now_ns=self._ports.clock.monotonic_ns()))
        item = Use(
            peer=request.peer,
            credential=request.credential,
            version=subject.credential.version,
            operation=request.operation,
            module=subject.module.manifest.name,
            module_digest=subject.module.code.digest,
            manifest_digest=subject.module.manifest.digest,
            formula=proposed.formula,
            holes=proposed.holes,
            salt=self._ports.random(SALT_BYTES),
            rule=granted.rule,
            policy_digest=subject.judge.digest,
        )
        try:
            with self._ports.metrics.stage("recorder"):
                recorded = await self._ports.recorder.submit(item)
        except Forbidden as refusal:
            # `stale-*`: the recorder holds the rows, and they are newer than this process's. Its denial is
            # recorded and true; whether the caller is told depends on whether the rows have really moved.
            if refusal.rule.startswith("stale-"):
                await self._ports.catalog.look_again(request.credential)
                if await self._ports.catalog.has_moved(request.credential, subject):
                    raise Moved(refusal.message) from refusal
            raise
        return RecordedUse(
            formula=proposed.formula, rule=granted.rule, index=recorded.index, outputs=recorded.output
        )

    def release(self, recorded: RecordedUse) -> Released:
        """Give the caller what the formula released."""
        try:
            release = _outputs.decode(recorded.outputs)
        except msgspec.MsgspecError as exc:
            raise InternalFault("malformed output of the keyholder") from exc
        return Released(release=release, formula=recorded.formula, entry=recorded.index, rule=recorded.rule)

    def explain(self, granted: Granted) -> Explained:
        """Show what `record` and `release` would have signed, without a secret."""
        subject, proposed = granted.attempt.subject, granted.proposed
        bindings = explain(subject.module.manifest, granted.holes, shareable=subject.credential.shareable)
        return Explained(formula=proposed.formula, holes=proposed.holes, bindings=bindings, rule=granted.rule)

    async def _refuse(self, request: SignRequest, seen: Subject | None, rule: str, reason: str) -> NoReturn:
        """Look again, then refuse (`credsvc.front.doorkeeper`); raise `Moved` where what the refusal would be
        based on was replaced.
        """
        if await self._ports.catalog.has_moved(request.credential, seen):
            raise Moved("the credential, its module or the policies changed meanwhile: try again")
        self._ports.metrics.count("denied")
        target = f"{request.credential}/{request.operation}"
        await self._ports.refuser.refuse(request.peer, act="use", target=target, rule=rule, reason=reason)
