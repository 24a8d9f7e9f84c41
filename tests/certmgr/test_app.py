"""The manager as a process, with programs that claim from it, over its real socket and the running kernel."""

from __future__ import annotations

import os
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from certmgr.lifecycle import AgentState
from ostiary.capabilities import parse_capabilities
from tests.support.fake_ca import FakeCA
from tests.support.need import require_kernel, require_root
from tests.support.running_manager import PYTHON, ClaimingProgram, RunningManager, until

pytestmark = pytest.mark.slow
OTHER_USER = 61_999
CGROUPS = next(
    (
        path
        for path in map(Path, ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"))
        if (path / "cgroup.procs").exists()
    ),
    None,
)


@pytest.fixture
def controller(running: RunningManager, start_program: Callable[..., ClaimingProgram]) -> ClaimingProgram:
    """The node controller, with its certificate."""
    running.when_active()
    found = start_program()
    assert found("claim", token=running.controller["token"])["agent"] == running.controller["agent"]
    return found


@pytest.fixture
def cgroup() -> Iterator[Path]:
    """A leaf cgroup of the test's own."""
    require_root()
    require_kernel("control groups of version 2", present=CGROUPS is not None)
    path = (CGROUPS or Path()) / f"ostiary-test-{uuid.uuid4().hex[:8]}"
    path.mkdir()
    yield path
    until(lambda: "populated 0" in (path / "cgroup.events").read_text())
    path.rmdir()


def spawn(controller: ClaimingProgram, **options: Any) -> tuple[str, str]:
    answer = controller("request", subsystem="component-harness", capabilities=["credential:use"], **options)
    return answer["agent"], answer["token"]


def statuses(fake: FakeCA, agent: str) -> list[str]:
    return [row.status for row in fake.of_agent(agent)]


# --- first contact ---


def test_a_node_proves_itself_and_then_gets_its_capabilities(fake: FakeCA, running: RunningManager) -> None:
    running.when_active()
    assert statuses(fake, running.manager) == ["superseded", "active"]
    first, second = fake.of_agent(running.manager)
    assert not first.identity.capabilities
    assert second.identity.capabilities == parse_capabilities(["enroll:node"])
    proofs = [request for request in fake.requests if request.endswith("/prove")]
    assert len(proofs) == 2
    assert running.status()["ledgers"][0]["alarm"] is False


def test_an_operators_confirmation_replaces_the_dial_back(fake: FakeCA, tmp_path: Path) -> None:
    running = RunningManager(directory=tmp_path, document=fake.bootstrap())
    running.start()
    try:
        until(lambda: running.state(running.manager) == AgentState.PENDING.value)
        until(lambda: running.row(running.manager)["attempts"] >= 1)
        assert running.row(running.manager)["pending_serial_number"]
        for row in list(fake.rows.values()):
            row.status = "active"  # ca confirm NODE FINGERPRINT
        running.when_active()
    finally:
        running.stop()


def test_an_impostor_gets_no_token(fake: FakeCA, tmp_path: Path) -> None:
    """A server at the authority's address with a certificate of another sub-system is refused."""
    impostor = FakeCA(authority=fake.authority)
    impostor.start(subsystem="credentials-service")
    document = fake.bootstrap()
    document["ca"]["url"] = f"https://127.0.0.1:{impostor.address[1]}"
    running = RunningManager(directory=tmp_path, document=document)
    running.start()
    try:
        until(lambda: "expected 'certificate-authority'" in running.log)
        assert impostor.requests == []
        assert running.state(running.manager) == AgentState.REQUESTED.value
    finally:
        running.stop()
        impostor.stop()


# --- spawning and claiming ---


def test_a_spawner_gets_a_claim_token_and_its_child_a_certificate(
    fake: FakeCA, controller: ClaimingProgram, start_program: Callable[..., ClaimingProgram]
) -> None:
    agent, token = spawn(controller, endpoints=["https+tcp://:8443"])
    child = start_program()
    assert child("claim", token=token)["agent"] == agent
    row = fake.of_agent(agent)[0]
    assert row.identity.capabilities == parse_capabilities(["credential:use"])
    assert [str(each) for each in row.identity.endpoints] == [f"https+tcp://{row.identity.host}:8443"]
    again = child("claim", agent=agent)
    assert again["generation"] == 1


def test_a_refused_spawn_names_the_rule(
    controller: ClaimingProgram, start_program: Callable[..., ClaimingProgram]
) -> None:
    assert controller("request", subsystem="certificate-manager")["rule"] == "spawn-capability"
    assert start_program()("request", subsystem="component-harness")["rule"] == "spawn-agent"


def test_another_user_is_refused_and_reported(
    running: RunningManager, controller: ClaimingProgram, start_program: Callable[..., ClaimingProgram]
) -> None:
    require_root()
    agent, token = spawn(controller)
    mine, other = start_program(), start_program(uid=OTHER_USER)
    assert mine("claim", token=token)["agent"] == agent
    assert other("claim", token=token)["rule"] == "claim-user"
    named, token = spawn(controller, uid=OTHER_USER)
    assert mine("claim", token=token)["rule"] == "claim-user"
    assert other("claim", token=token)["agent"] == named
    refused = [(row["agent"], row["uid"], row["rule"]) for row in running.status()["refused_claims"]]
    assert refused == [(agent, OTHER_USER, "claim-user"), (named, os.getuid(), "claim-user")]


def test_another_scope_is_refused_and_descendants_are_not(
    controller: ClaimingProgram, start_program: Callable[..., ClaimingProgram]
) -> None:
    agent, token = spawn(controller)
    mine, stranger = start_program(), start_program()
    assert mine("claim", token=token)["agent"] == agent
    assert mine("child", order={"do": "claim", "token": token})["agent"] == agent
    assert mine("child", order={"do": "claim", "agent": agent})["agent"] == agent
    assert stranger("claim", token=token)["rule"] == "claim-scope"
    assert stranger("claim", agent=agent)["rule"] == "claim-scope"
    named, token = spawn(controller, pid=mine.process.pid)
    assert stranger("claim", token=token)["rule"] == "scope"
    assert mine("claim", token=token)["agent"] == named


def test_an_invented_token_is_refused(
    running: RunningManager, start_program: Callable[..., ClaimingProgram]
) -> None:
    bogus = "ost_" + "a" * 16 + "_" + "b" * 58
    found = start_program()("claim", token=bogus)
    assert found["error"] == "bad-input"
    assert bogus not in found["message"]
    assert bogus not in running.log
    assert start_program()("claim", agent=str(uuid.uuid4()))["error"] == "not-found"


def test_a_child_with_its_own_certificate_no_longer_counts_as_its_parent(
    running: RunningManager, controller: ClaimingProgram
) -> None:
    agent, token = spawn(controller)
    own = {"do": "claim", "agent": running.controller["agent"]}
    assert controller("child", order=own)["agent"] == running.controller["agent"]
    script = (
        "import sys; from certmgr import client\n"
        "client.claim(sys.argv[1], sys.argv[2])\n"
        "try: client.claim(sys.argv[1], None, agent=sys.argv[3])\n"
        "except client.ManagerError as exc: print(exc.rule)\n"
    )
    command = [PYTHON, "-c", script, str(running.socket), token, running.controller["agent"]]
    assert controller("run", command=command)["output"] == "claim-scope\n", agent


# --- ends ---


def test_the_end_of_a_program_is_a_revocation(
    fake: FakeCA,
    running: RunningManager,
    controller: ClaimingProgram,
    start_program: Callable[..., ClaimingProgram],
) -> None:
    agent, token = spawn(controller)
    child = start_program()
    child("claim", token=token)
    child.process.kill()
    child.process.wait()
    until(lambda: statuses(fake, agent) == ["revoked"])
    until(lambda: running.state(agent) == "ended")


def test_a_child_that_outlives_its_parent_keeps_the_agent(
    fake: FakeCA,
    running: RunningManager,
    controller: ClaimingProgram,
    start_program: Callable[..., ClaimingProgram],
) -> None:
    agent, token = spawn(controller)
    server = start_program()
    server("claim", token=token)
    child = server("fork")["pid"]
    assert child != server.process.pid
    until(lambda: running.watches(child))
    server.process.kill()
    server.process.wait()
    until(lambda: not running.watches(server.process.pid))
    assert server("claim", agent=agent)["agent"] == agent
    assert statuses(fake, agent) == ["active"]
    server.end()
    until(lambda: statuses(fake, agent) == ["revoked"])


def test_a_double_forking_daemon_in_its_cgroup_is_one_agent(
    fake: FakeCA,
    running: RunningManager,
    controller: ClaimingProgram,
    start_program: Callable[..., ClaimingProgram],
    cgroup: Path,
) -> None:
    agent, token = spawn(controller)
    daemon, stranger = start_program(cgroup=cgroup), start_program()
    daemon("claim", token=token)
    assert running.row(agent)["scope"] == {"kind": "cgroup", "path": f"/{cgroup.name}"}
    daemon("daemonize")
    assert daemon("claim", agent=agent)["agent"] == agent
    assert daemon("claim", token=token)["agent"] == agent
    assert stranger("claim", token=token)["rule"] == "claim-scope"
    daemon.end()
    until(lambda: statuses(fake, agent) == ["revoked"])


@pytest.mark.parametrize("is_orphaned", [False, True], ids=["", "whose leader has ended"])
def test_a_lease_lets_a_session_go_on_where_the_claimer_ends(
    fake: FakeCA,
    running: RunningManager,
    controller: ClaimingProgram,
    start_program: Callable[..., ClaimingProgram],
    is_orphaned: bool,
) -> None:
    agent, token = spawn(controller)
    shell = start_program(is_orphaned=is_orphaned)
    claimed = shell("child", order={"do": "claim", "token": token, "lease": True})
    assert claimed["agent"] == agent
    time.sleep(0.6)
    assert shell("child", order={"do": "claim", "agent": agent})["agent"] == agent
    assert running.row(agent)["scope"]["kind"] == "lease"
    assert shell("end", agent=agent)["state"] == "ending"
    until(lambda: statuses(fake, agent) == ["revoked"])
    assert shell("claim", token=token)["error"] == "conflict"


def test_a_certificate_that_an_operator_revokes_is_no_longer_delivered(
    fake: FakeCA,
    running: RunningManager,
    controller: ClaimingProgram,
    start_program: Callable[..., ClaimingProgram],
) -> None:
    agent, token = spawn(controller)
    child = start_program()
    child("claim", token=token)
    serial = running.row(agent)["serial_number"]
    fake.revoke(serial)
    until(lambda: child("claim", token=token).get("error") == "conflict")
    assert statuses(fake, agent) == ["revoked"]


# --- failures ---


def test_a_hung_authority_delays_nobody_but_those_who_need_it(
    fake: FakeCA,
    running: RunningManager,
    controller: ClaimingProgram,
    start_program: Callable[..., ClaimingProgram],
) -> None:
    """The gate is still shut when the controller and `status` are answered, and a dozen claims wait."""
    claimers = [start_program() for _ in range(12)]
    fake.open_gate.clear()
    spawned = [spawn(controller) for _ in range(20)]
    for each, (_, token) in zip(claimers, spawned, strict=False):
        each.tell("claim", token=token)
    until(lambda: all(running.row(agent)["scope"] for agent, _ in spawned[: len(claimers)]))
    assert controller("claim", agent=running.controller["agent"])["generation"] == 2
    assert {row["state"] for row in running.status()["agents"]} == {"active", "requested"}
    fake.open_gate.set()
    agent, token = spawned[-1]
    assert start_program()("claim", token=token)["agent"] == agent
    # Who waited gets its certificate, or on a slow machine the word to come again.
    late = [each.answer() for each in claimers]
    assert all(answer.get("generation") == 1 or answer.get("error") == "busy" for answer in late)
    for each, (agent, token) in zip(claimers, spawned, strict=False):
        assert each("claim", token=token)["agent"] == agent


def test_a_killed_manager_comes_back_with_its_agents(
    fake: FakeCA,
    running: RunningManager,
    controller: ClaimingProgram,
    start_program: Callable[..., ClaimingProgram],
) -> None:
    if running.status()["lacks"]:
        pytest.skip(f"this kernel lacks {running.status()['lacks']}")
    agent, token = spawn(controller)
    child, stranger = start_program(), start_program()
    before = child("claim", token=token)
    running.kill()
    fake.away = True
    asked = len(fake.requests)
    running.start()
    after = child("claim", agent=agent)
    assert after == before
    assert stranger("claim", token=token)["rule"] == "claim-scope"
    assert controller("claim", agent=running.controller["agent"])["generation"] == 2
    assert len(fake.requests) == asked
    fake.away = False
    running.kill()
    child.process.kill()
    child.process.wait()
    running.start()
    until(lambda: statuses(fake, agent) == ["revoked"])


def test_a_manager_killed_while_it_asks_loses_nothing(fake: FakeCA, tmp_path: Path) -> None:
    """The key is kept before the authority is asked, so the same request is made again."""
    fake.open_gate.clear()
    running = RunningManager(directory=tmp_path, document=fake.bootstrap())
    fake.dial = ("127.0.0.1", running.port)
    running.start()
    try:
        if running.status()["lacks"]:
            pytest.skip(f"this kernel lacks {running.status()['lacks']}")
        until(lambda: len(fake.requests) >= 2)
        fake.open_gate.set()  # both tokens are spent now, and the answers are lost
        running.kill()
        running.start()
        running.when_active()
    finally:
        running.stop()


def test_certificates_are_renewed_and_the_claimer_gets_the_next_generation(
    fake: FakeCA,
    running: RunningManager,
    controller: ClaimingProgram,
    start_program: Callable[..., ClaimingProgram],
) -> None:
    agent, token = spawn(controller)
    child = start_program()
    fake.half_spent, fake.renews = True, False
    other, other_token = spawn(controller)
    assert child("claim", token=token)["agent"] == agent
    heir = start_program()
    first = heir("claim", token=other_token)
    assert first["generation"] == 1
    fake.half_spent, fake.renews = False, True
    until(lambda: heir("claim", agent=other).get("generation", 0) >= 2)
    assert statuses(fake, other)[:2] == ["superseded", "active"]
    assert running.row(other)["state"] == "active"


def test_a_second_manager_does_not_take_the_socket_of_the_first(running: RunningManager) -> None:
    command = [PYTHON, "-m", "ostiary.cli", "certmgr", "serve", "--bootstrap"]
    command += [str(running.directory / "bootstrap.json"), "--socket", str(running.socket)]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert "another manager serves" in found.stderr
    assert running.status()
