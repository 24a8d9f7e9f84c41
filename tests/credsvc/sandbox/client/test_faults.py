"""Every kind of fault has one text and one actor."""

from __future__ import annotations

import pytest

from credsvc.sandbox.client.faults import Fault, SandboxFault, SourceRefused, fault
from credsvc.sandbox.refusal import Reason
from ostiary.errors import BadInput, Busy, InternalFault, OstiaryError

ACTORS: dict[type[OstiaryError], set[Fault]] = {
    BadInput: {Fault.MODULE_RAISED, Fault.REQUEST_TOO_LARGE},
    Busy: {Fault.TIMEOUT, Fault.FULL, Fault.UNAVAILABLE},
    InternalFault: {Fault.CRASHED, Fault.EXHAUSTED, Fault.ANSWER_REFUSED, Fault.NOT_LOADED},
}


@pytest.mark.parametrize("kind", Fault)
def test_each_kind_says_who_must_act(kind: Fault) -> None:
    error = fault(kind)
    (actor,) = [actor for actor, kinds in ACTORS.items() if kind in kinds]
    assert isinstance(error, actor)
    assert isinstance(error, SandboxFault)
    assert error.kind == actor.kind
    assert error.fault is kind


def test_no_two_kinds_share_a_text() -> None:
    assert len({fault(kind).message for kind in Fault}) == len(Fault)


def test_busy_says_when_to_come_back() -> None:
    error = fault(Fault.FULL)
    assert isinstance(error, Busy)
    assert error.retry_after_s == 1


def test_a_refused_source_names_reason_and_line() -> None:
    assert (
        SourceRefused(reason=Reason.SYNTAX, line=3).message
        == "the module's source is refused: syntax at line 3"
    )
    assert (
        SourceRefused(reason=Reason.TOO_LARGE, line=0).message == "the module's source is refused: too-large"
    )
