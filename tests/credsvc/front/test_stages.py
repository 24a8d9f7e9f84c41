"""Single stages: what each takes from the one before, and what it gives away. The whole: test_pipeline.py."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from credsvc.front.doorkeeper import Refuser
from credsvc.front.stages import SANDBOX_DEADLINE_S, STAGES, Granted, Ports, Proposal, RecordedUse, Stages
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxBusy, fault
from credsvc.sandbox.client.pool import LoadedModule
from ostiary.edge.metrics import Metrics
from ostiary.errors import InternalFault
from tests.support.credentials_front import (
    AWS,
    NOW,
    FixedClock,
    MemoryCatalog,
    MemoryRecorder,
    PlainSandbox,
    sign_request,
    subject,
)

OUTPUTS = msgspec.msgpack.encode({"header.authorization": "AWS4 ..."})


class WatchedSandbox(PlainSandbox):
    """Keeps what the module is given; `failing` is raised in the place of an answer."""

    given: Mapping[str, Any] | None = None
    deadline_s = 0.0
    failing: Exception | None = None

    async def run(
        self, module: LoadedModule, entry: str, arguments: Mapping[str, Any], deadline_s: float
    ) -> HoleProposal:
        self.given, self.deadline_s = arguments, deadline_s
        if self.failing is not None:
            raise self.failing
        return await super().run(module, entry, arguments, deadline_s)


def stages(sandbox: WatchedSandbox, recorder: MemoryRecorder | None = None) -> Stages:
    recorder = recorder or MemoryRecorder()
    return Stages(
        Ports(
            catalog=MemoryCatalog(subject()),
            sandbox=sandbox,
            recorder=recorder,
            refuser=Refuser(recorder, FixedClock()),
            clock=FixedClock(),
            random=lambda count: b"\x01" * count,
            metrics=Metrics(stages=STAGES, counters=("denied",), processes=1),
        )
    )


async def propose(chain: Stages) -> Proposal:
    return await chain.propose(await chain.attempt(sign_request()))


def test_an_attempt_knows_what_it_is_about() -> None:
    made = asyncio.run(stages(WatchedSandbox()).attempt(sign_request()))
    assert (made.action, made.subject.module) == ("aws-sigv4/sign", AWS)


def test_the_module_sees_public_fields_and_the_fronts_time() -> None:
    sandbox = WatchedSandbox()
    proposal = asyncio.run(propose(stages(sandbox)))
    assert sandbox.given is not None
    assert set(sandbox.given) == {"request", "credential", "clock"}
    assert sandbox.given["credential"] == {"access_key_id": "AKIDEXAMPLE"}
    assert sandbox.given["clock"]["epoch"] == int(NOW.timestamp())
    assert sandbox.deadline_s == SANDBOX_DEADLINE_S
    assert proposal.proposed.formula == "s3_headers"


def test_a_fault_of_the_sandbox_is_not_a_refusal() -> None:
    recorder, sandbox = MemoryRecorder(), WatchedSandbox()
    sandbox.failing = fault(Fault.TIMEOUT)
    with pytest.raises(SandboxBusy):
        asyncio.run(propose(stages(sandbox, recorder)))
    assert not recorder.items


def test_what_is_recorded_is_what_the_module_said() -> None:
    """Not the values filled from it: the keyholder fills the holes again by itself."""
    recorder = MemoryRecorder()
    chain = stages(WatchedSandbox(), recorder)

    async def record() -> Granted:
        granted = await chain.grant(await chain.check(await propose(chain)))
        await chain.record(granted)
        return granted

    granted = asyncio.run(record())
    (item,) = recorder.items
    assert item.holes == granted.proposed.holes  # type: ignore[attr-defined]


def test_an_answer_names_its_entry_formula_and_rule() -> None:
    recorded = RecordedUse(formula="query", rule="r1", index=7, outputs=OUTPUTS)
    released = stages(WatchedSandbox()).release(recorded)
    assert (released.release, released.entry) == ({"header.authorization": "AWS4 ..."}, 7)
    assert (released.formula, released.rule) == ("query", "r1")


@pytest.mark.parametrize("outputs", [b"", b"\xc1", msgspec.msgpack.encode(["no", "map"])])
def test_an_output_of_another_form_is_our_fault(outputs: bytes) -> None:
    with pytest.raises(InternalFault):
        stages(WatchedSandbox()).release(RecordedUse(formula="q", rule="r", index=0, outputs=outputs))
