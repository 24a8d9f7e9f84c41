"""Delivery through the kernel: request_key(2) -> upcall -> manager -> key."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest

from tests.support.fake_ca import FakeCA
from tests.support.running_manager import (
    ENVIRONMENT,
    PYTHON,
    ClaimingProgram,
    RunningManager,
    until,
)

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("upcall")]
OTHER_USER = 61_998


def test_a_key_comes_by_the_upcall_and_again_without_the_token(
    fake: FakeCA, running: RunningManager, start_program: Callable[..., ClaimingProgram]
) -> None:
    assert running.status()["upcall"] is True
    name, token = running.controller["agent"], running.controller["token"]
    controller = start_program()
    controller("join")
    assert controller("keyring", agent=name, token=token)["agent"] == name
    controller("forget", agent=name)
    assert controller("keyring", agent=name)["generation"] == 2
    spawned = controller(
        "request", subsystem="component-harness", capabilities=["credential:use"], uid=OTHER_USER
    )
    child, stranger, other = start_program(uid=OTHER_USER), start_program(uid=OTHER_USER), start_program()
    for each in (child, stranger, other):
        each("join")
    assert other("keyring", agent=spawned["agent"], token=spawned["token"])["error"] == "EKEYREJECTED"
    assert child("keyring", agent=spawned["agent"])["error"] == "EKEYREJECTED"
    until(lambda: child("keyring", agent=spawned["agent"], token=spawned["token"]).get("generation") == 1)
    assert stranger("keyring", agent=spawned["agent"], token=spawned["token"])["error"] == "EKEYREJECTED"
    child("forget", agent=spawned["agent"])
    # An invalidated key may still answer EKEYREVOKED for a moment.
    until(lambda: child("keyring", agent=spawned["agent"]).get("agent") == spawned["agent"])
    fake.revoke(running.row(spawned["agent"])["serial_number"])
    until(lambda: running.state(spawned["agent"]) == "ended")
    child("forget", agent=spawned["agent"])
    assert child("keyring", agent=spawned["agent"])["error"] == "EKEYREVOKED"


def test_an_unknown_agent_gets_no_key(start_program: Callable[..., ClaimingProgram]) -> None:
    stranger = start_program()
    stranger("join")
    found = stranger("keyring", agent="00000000-0000-4000-8000-00000000dead")
    assert found["error"] in {"ENOKEY", "EAGAIN"}  # EAGAIN where a dead manager is still registered


def test_only_root_may_speak_as_the_upcall(running: RunningManager) -> None:
    script = (
        "import os, sys; from certmgr import client\n"
        "os.setresuid(61998, 61998, 61998)\n"
        "body = {'agent': 'a', 'callout': '', 'requester_pid': 1, 'requester_uid': 0, 'requester_gid': 0}\n"
        "try: client.call(sys.argv[1], 'POST', '/v1/upcall', body)\n"
        "except client.ManagerError as exc: print(exc.rule)\n"
    )
    command = [PYTHON, "-c", script, str(running.socket)]
    found = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert found.stdout == "upcall-root\n"
