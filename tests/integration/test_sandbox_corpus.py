"""Every entry of the hostile corpus through the whole stack, and the four things that must hold after each.

1 no canary in any output, error or log; 2 another module is served; 3 nothing is left behind; 4 constant
error texts.
"""

from __future__ import annotations

import base64
import os
import secrets
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from credsvc.sandbox.client.decode import HoleProposal, RefusedAnswer, decode_proposal
from credsvc.sandbox.client.faults import Fault, SandboxFault, SourceRefused, fault
from credsvc.sandbox.nursery import FIRST_WORKER_UID, MAX_WORKERS
from tests.support import hostile_modules as corpus
from tests.support.hostile_modules import ENTRY, Entry
from tests.support.need import require_root
from tests.support.sandbox_stack import CONTROL, REQUEST, Stack, module, running
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S

# Held by this process before the zygote starts, as a front holds its key; none may ever be seen in a worker.
CANARIES = [f"CANARY{secrets.token_hex(16)}" for _ in range(3)]
OUTCOMES = {
    Fault.NOT_LOADED: "load_rejected",
    Fault.MODULE_RAISED: "op_error",
    Fault.EXHAUSTED: "op_error",
    Fault.ANSWER_REFUSED: "output_rejected",
    Fault.TIMEOUT: "killed",
    Fault.CRASHED: "killed",
}
TEXTS = {str(fault(kind)) for kind in Fault}

# Which droppable layers are off; seccomp is always there.
PROCESS_LAYERS: dict[str, tuple[str, ...]] = {
    "all": (),
    "seccomp-landlock": ("namespaces",),
    "seccomp-namespaces": ("landlock",),
    "seccomp": ("namespaces", "landlock"),
}


@pytest.fixture(scope="module")
def restricted() -> Iterator[Stack]:
    with running() as stack:
        yield stack


@pytest.fixture(scope="module", params=list(PROCESS_LAYERS.values()), ids=list(PROCESS_LAYERS))
def unrestricted(request: pytest.FixtureRequest) -> Iterator[Stack]:
    with running(language="unrestricted", without=request.param) as stack:
        yield stack


@pytest.mark.parametrize("entry", corpus.entries("restricted"), ids=lambda entry: entry.name)
def test_restricted(restricted: Stack, entry: Entry) -> None:
    before = _leftovers(restricted)
    _run_and_judge(restricted, entry)
    _check_invariants(restricted, before)


@pytest.mark.parametrize("entry", corpus.entries("unrestricted"), ids=lambda entry: entry.name)
def test_process_layers_hold_without_the_language(unrestricted: Stack, entry: Entry) -> None:
    before = _leftovers(unrestricted)
    _run_and_judge(unrestricted, entry)
    if entry.scan:
        require_root()
        unrestricted.settle()
        assert _canaries_in_memory(unrestricted) == 0
    _check_invariants(unrestricted, before)


@pytest.mark.parametrize("entry", corpus.entries("wire"), ids=lambda entry: entry.name)
def test_messages_are_refused(entry: Entry) -> None:
    message = corpus.wire_bytes(entry)
    with pytest.raises(RefusedAnswer):
        decode_proposal(message)


# With `headers` in the place of `holes` this is a proposal like any other: an integer.
GOOD_AS_HOLES = {"wire_value_int"}
WITH_HEADERS = [entry for entry in corpus.entries("wire") if b'{"headers": ' in corpus.wire_bytes(entry)]


@pytest.mark.parametrize("entry", WITH_HEADERS, ids=lambda entry: entry.name)
def test_messages_are_refused_as_holes_too(entry: Entry) -> None:
    message = corpus.wire_bytes(entry).replace(b'{"headers": ', b'{"formula":"f","holes":', 1)
    # Spaces between the parts would be reason enough, and hide the entry's own.
    message = message.replace(b'": ', b'":').replace(b', "', b',"')
    if entry.name in GOOD_AS_HOLES:
        assert decode_proposal(message).formula == "f"
    elif entry.name == "wire_handle_as_header_name":  # a random name: good if it begins with a letter
        assert message
    else:
        with pytest.raises(RefusedAnswer):
            decode_proposal(message)


@pytest.mark.parametrize("name", corpus.CONTROLS)
def test_controls_work(restricted: Stack, name: str) -> None:
    proposal = restricted.pool.run(module(corpus.CONTROLS[name]), "sign", REQUEST, PATIENCE_S)
    expected: dict[str, dict[str, Any]] = {
        "sigv4": {"t": 1767323045, "method": "GET", "path": "/photos/2026", "query": "a=1&b=2"},
        "gogrid": {"t": 1767323045},
        "arithmetic": {"total": 2 + 0 + 2 + 1 + 98, "text": "---63TrueNone13", "kind": "True"},
    }
    assert {key: proposal.holes[key] for key in expected[name]} == expected[name]


def _run_and_judge(stack: Stack, entry: Entry) -> None:
    for _ in range(entry.requests):
        outcome, detail = _outcome(stack, entry)
        _check_no_canary(detail)
        assert outcome in entry.accepted, (outcome, detail[:200])
        if outcome == "ok" and not entry.scan:
            assert entry.expect_detail in detail
        assert not any(text in detail for text in entry.never_detail)


def _outcome(stack: Stack, entry: Entry) -> tuple[str, str]:
    # What may run on gets little time; what must succeed gets enough of it on a loaded machine.
    deadline_s = RUNS_OUT_S if "killed" in entry.accepted and "ok" not in entry.accepted else PATIENCE_S
    try:
        proposal = stack.pool.run(module(entry.source), ENTRY, REQUEST, deadline_s)
    except SandboxFault as exc:
        if exc.fault is Fault.UNAVAILABLE:  # no worker could be made by then: nothing ran
            return _outcome(stack, entry)
        return (OUTCOMES[exc.fault] if str(exc) in TEXTS else "not a constant text"), str(exc)
    if entry.mode == "restricted" and not corpus.fits_columns(proposal):
        return "output_rejected", ""
    return "ok", _detail(proposal)


def _detail(proposal: HoleProposal) -> str:
    return f"{proposal.formula} {proposal.holes!r}"


def _check_invariants(stack: Stack, before: dict[str, frozenset[str]]) -> None:
    proposal = stack.pool.run(module(CONTROL), "sign", REQUEST, PATIENCE_S)
    assert proposal == HoleProposal(formula="control", holes={"method": "GET", "t": 1767323045})
    _check_no_canary(stack.log)
    assert _leftovers(stack) == before
    stack.settle()


def _leftovers(stack: Stack) -> dict[str, frozenset[str]]:
    """What a module could leave: files of the sandbox, shared memory, message queues, a core file.

    Of those whom a worker can be: other programs of the machine have shared memory, too.
    """
    places = ((stack.folder, "*"), (Path("/dev/shm"), "*"), (Path("/dev/mqueue"), "*"), (Path.cwd(), "core*"))
    return {
        str(place): frozenset(path.name for path in place.glob(pattern) if _is_of_a_worker(path))
        for place, pattern in places
    }


def _is_of_a_worker(path: Path) -> bool:
    if os.geteuid() != 0:  # then workers are whom the other programs of this user are, too
        return not path.name.startswith(("wgunicorn-", "PostgreSQL."))
    try:
        owner = path.lstat().st_uid
    except FileNotFoundError:
        return False
    return owner in range(FIRST_WORKER_UID, FIRST_WORKER_UID + MAX_WORKERS)


def _check_no_canary(text: str) -> None:
    for canary in CANARIES:
        for form in _forms(canary):
            assert form not in text


def _forms(canary: str) -> list[str]:
    raw = canary.encode()
    shifted = [base64.b64encode(b"x" * offset + raw).decode()[4:-4] for offset in range(3)]
    return [canary, canary[::-1], raw.hex(), *shifted, urllib.parse.quote(canary), canary[:10], canary[-10:]]


def _canaries_in_memory(stack: Stack) -> int:
    return sum(_memory_of(pid).count(each.encode()) for pid in stack.workers() for each in CANARIES)


def _memory_of(pid: int) -> bytes:
    parts = []
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in maps:
            span, rights = line.split()[:2]
            start, end = (int(number, 16) for number in span.split("-"))
            if rights.startswith("r") and "[v" not in line:
                memory.seek(start)
                parts.append(memory.read(end - start))
    return b"".join(parts)


def test_the_scan_of_memory_finds_what_is_there() -> None:
    require_root()
    assert CANARIES[0].encode() in _memory_of(os.getpid())


@pytest.mark.parametrize(
    "entry",
    [entry for entry in corpus.entries("restricted") if entry.accepted == {"load_rejected"}],
    ids=lambda entry: entry.name,
)
def test_the_load_check_refuses_what_must_not_load(restricted: Stack, entry: Entry) -> None:
    with pytest.raises(SourceRefused, match=r"the module's source is refused: [a-z-]+( at line [0-9]+)?$"):
        restricted.pool.check_source(entry.source)
