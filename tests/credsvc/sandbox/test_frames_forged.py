"""Code that has broken out of the language and writes records itself: none of them ever answers another
request.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from credsvc.sandbox.client.faults import Fault, SandboxFault
from tests.support.sandbox_stack import Stack, module, running

PROPOSAL = b'{"formula":"forged","holes":{}}'

FORGED = {
    "another nonce": f"os.write(3, bytes(16) + b'd' + {PROPOSAL!r})",
    "almost the nonce": f"os.write(3, nonce()[:-1] + b'\\0d' + {PROPOSAL!r})",
    "no outcome": "os.write(3, nonce())",
    "unknown outcome": f"os.write(3, nonce() + b'?' + {PROPOSAL!r})",
    "loaded, but asked to call": "os.write(3, nonce() + b'k')",
    "refused source, with text": "os.write(3, nonce() + b'rnot-allowed 1')",
    "longer than we read": f"os.write(3, nonce() + b'd' + {PROPOSAL!r} + b' ' * 70_000)",
    "two for one": f"os.write(3, nonce() + b'd' + {PROPOSAL!r} + b'\\nd' + {PROPOSAL!r})",
    "nothing": "os._exit(0)",
}
SOURCE = """
import os, gc
def nonce():
    frame = __import__("sys")._getframe()
    while frame is not None:
        if "nonce" in frame.f_locals and type(frame.f_locals["nonce"]) is bytes:
            return frame.f_locals["nonce"]
        frame = frame.f_back
def forge(request, credential, clock):
    BODY
    return {"formula": "real", "holes": {}}
def honest(request, credential, clock):
    return {"formula": "real", "holes": {}}
"""
ARGUMENTS: dict[str, dict[str, str]] = {"request": {}, "credential": {}, "clock": {}}


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running(language="unrestricted") as made:
        yield made


@pytest.mark.parametrize("body", FORGED.values(), ids=FORGED)
def test_a_forged_answer_is_refused_and_the_next_is_real(stack: Stack, body: str) -> None:
    forging = module(SOURCE.replace("BODY", body))
    with pytest.raises(SandboxFault) as caught:
        stack.pool.run(forging, "forge", ARGUMENTS, 5.0)
    assert caught.value.fault in {Fault.ANSWER_REFUSED, Fault.CRASHED}
    assert stack.pool.run(forging, "honest", ARGUMENTS, 5.0).formula == "real"


def test_a_record_left_behind_never_answers_the_next_request(stack: Stack) -> None:
    """It answers truly, twice: the second record meets the next request, or the look before it; both end the
    worker.
    """
    ahead = module(SOURCE.replace("BODY", f"os.write(3, nonce() + b'd' + {PROPOSAL!r})"))
    for _ in range(10):
        assert (
            stack.pool.run(ahead, "forge", ARGUMENTS, 5.0).formula == "forged"
        )  # its own request, its own nonce
        try:
            answer = stack.pool.run(ahead, "honest", {**ARGUMENTS, "request": {"pad": "x" * 50_000}}, 5.0)
        except SandboxFault as exc:
            refused = exc.fault
        else:
            refused = Fault.ANSWER_REFUSED if answer.formula == "real" else Fault.CRASHED
        assert refused is Fault.ANSWER_REFUSED


def test_records_left_behind_by_a_batch_never_answer_the_next_request(stack: Stack) -> None:
    """Each item answers once more than it should: for another item of its own batch at most."""
    ahead = module(SOURCE.replace("BODY", f"os.write(3, nonce() + b'd' + {PROPOSAL!r})"))
    for _ in range(10):
        results = stack.pool.wait(stack.sandbox.run_many(ahead, "forge", [ARGUMENTS] * 20, 5.0))
        said = {each.fault if isinstance(each, SandboxFault) else each.formula for each in results}
        assert said <= {"forged", "real", Fault.ANSWER_REFUSED}
        try:
            answered = stack.pool.run(ahead, "honest", ARGUMENTS, 5.0).formula
        except SandboxFault as exc:
            answered = exc.fault
        assert answered in {"real", Fault.ANSWER_REFUSED}
