"""Problem documents: what the network may read, what an operator may, and what nobody may."""

from __future__ import annotations

import json

import msgspec
import pytest

from ostiary.edge.problems import (
    PROBLEM_TYPE,
    PROBLEM_URN,
    Audience,
    Problem,
    problem_of,
    problem_of_status,
    raw_problem,
)
from ostiary.errors import BadInput, Busy, Forbidden, InternalFault, Misconfigured

INSTANCE = "urn:ostiary:request:0123456789abcdef"
BOTH: tuple[Audience, ...] = ("network", "operator")


@pytest.mark.parametrize("audience", BOTH)
def test_a_bad_request_is_explained_to_everybody(audience: Audience) -> None:
    problem = problem_of(BadInput("no port", field="listen"), audience=audience, instance=INSTANCE)
    assert problem == Problem(
        type=PROBLEM_URN + "bad-input", title="Invalid request", status=400, detail="no port", field="listen"
    )


def test_a_refusal_names_its_rule() -> None:
    problem = problem_of(Forbidden("no", rule="token-expired"), audience="network", instance=INSTANCE)
    assert (problem.status, problem.rule) == (403, "token-expired")


def test_only_an_operator_reads_what_only_an_operator_can_mend() -> None:
    error = Misconfigured("set `listen` in /srv/home/config.toml", field="listen")
    network = problem_of(error, audience="network", instance=INSTANCE)
    assert "/srv" not in network.detail
    assert (network.field, network.instance) == (None, INSTANCE)
    assert problem_of(error, audience="operator", instance=INSTANCE).detail == error.message


@pytest.mark.parametrize("audience", BOTH)
def test_nobody_reads_the_cause_of_a_fault(audience: Audience) -> None:
    error = InternalFault("hunter2 in frame 3", field="hunter2")
    encoded = msgspec.json.encode(problem_of(error, audience=audience, instance=INSTANCE))
    assert b"hunter2" not in encoded
    assert INSTANCE.encode() in encoded


def test_only_a_fault_refers_to_the_log() -> None:
    assert problem_of(BadInput("no"), audience="network", instance=INSTANCE).instance == ""
    assert problem_of(Busy("full"), audience="network", instance=INSTANCE).instance == INSTANCE


def test_members_that_say_nothing_are_left_out() -> None:
    encoded = json.loads(msgspec.json.encode(problem_of_status(405, "Method Not Allowed", "")))
    assert encoded == {
        "type": PROBLEM_URN + "method-not-allowed",
        "title": "Method Not Allowed",
        "status": 405,
    }


@pytest.mark.parametrize("status", [400, 408, 414, 417, 431, 500, 501])
def test_what_never_became_a_request_gets_a_whole_response(status: int) -> None:
    head, _, body = raw_problem(status).partition(b"\r\n\r\n")
    lines = head.decode("ascii").split("\r\n")
    assert lines[0].startswith(f"HTTP/1.1 {status} ")
    assert f"Content-Length: {len(body)}" in lines
    assert f"Content-Type: {PROBLEM_TYPE}" in lines
    assert "Connection: close" in lines
    assert json.loads(body)["status"] == status
