"""Delivery through the kernel: request_key(2) -> upcall -> manager -> key, and `ostiary agent exec`."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keyutils import install
from tests.support.fake_ca import FakeCA
from tests.support.need import require_root
from tests.support.running_manager import ENVIRONMENT, PYTHON, Actor, RunningManager, start_manager, until

pytestmark = pytest.mark.slow
OTHER_USER = 61_998
# What a program run by `agent exec` can see of itself, and the key that it finds.
LOOK = """
import json, pathlib
from certmgr import client
from keyutils import agent_keys
agent = client.session_agents()[0]
identity = client.open_agent(socket_path={socket!r}, agent=agent)
identity.ssl_context()
seen = b"".join(pathlib.Path("/proc/self", name).read_bytes() for name in ("cmdline", "environ"))
print(json.dumps({{"agent": agent, "key": identity.current().key.decode(), "seen": seen.hex()}}))
"""


@pytest.fixture
def running(fake: FakeCA, open_directory: Path) -> Iterator[RunningManager]:
    require_root()
    missing = install.probe().missing
    if missing:
        pytest.skip("; ".join(missing))
    running = start_manager(fake, open_directory)
    running.when_active()
    yield running
    running.stop()


def test_a_key_comes_by_the_upcall_and_again_without_the_token(
    fake: FakeCA, running: RunningManager, actor: Callable[..., Actor]
) -> None:
    assert running.status()["upcall"] is True
    name, token = running.controller["agent"], running.controller["token"]
    controller = actor()
    controller("join")
    assert controller("keyring", agent=name, token=token)["agent"] == name
    controller("forget", agent=name)
    assert controller("keyring", agent=name)["generation"] == 2
    spawned = controller(
        "request", subsystem="component-harness", capabilities=["credential:use"], uid=OTHER_USER
    )
    child, stranger, other = actor(uid=OTHER_USER), actor(uid=OTHER_USER), actor()
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


def test_an_agent_of_nobody_is_no_key(actor: Callable[..., Actor]) -> None:
    stranger = actor()
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


@pytest.mark.parametrize("via", ["keyring", "socket"])
def test_exec_leaves_no_trace_and_the_key_within_reach(running: RunningManager, via: str) -> None:
    name, token = running.controller["agent"], running.controller["token"]
    command = [PYTHON, "-m", "ostiary.cli", "agent", "exec", "--socket", str(running.socket), "--via", via]
    command += ["--agent", name, "-", "--", PYTHON, "-c", LOOK.format(socket=str(running.socket))]
    found = subprocess.run(command, input=token.encode(), capture_output=True, env=ENVIRONMENT, check=False)
    assert found.returncode == 0, found.stderr.decode()
    shown = json.loads(found.stdout)
    assert shown["agent"] == name
    seen = bytes.fromhex(shown["seen"])
    assert token.encode() not in seen
    assert shown["key"].splitlines()[1].encode() not in seen
    assert b"PRIVATE" not in seen
    assert shown["key"] not in running.log
    assert token not in running.log


def test_claim_writes_a_private_key_only_where_it_is_told(running: RunningManager, tmp_path: Path) -> None:
    token = running.controller["token"].encode()
    command = [PYTHON, "-m", "ostiary.cli", "--json", "agent", "claim", "--socket", str(running.socket), "-"]
    plain = subprocess.run(command, input=token, capture_output=True, env=ENVIRONMENT, check=True)
    assert b"PRIVATE" not in plain.stdout
    out = tmp_path / "out"
    subprocess.run(
        [*command, "--out", str(out)], input=token, capture_output=True, env=ENVIRONMENT, check=True
    )
    modes = {path.name: oct(path.stat().st_mode & 0o777) for path in out.iterdir()}
    assert modes == {
        "key.pem": "0o600",
        "bundle.pem": "0o600",
        "cert.pem": "0o644",
        "chain.pem": "0o644",
        "ca.pem": "0o644",
    }
    chain = json.loads(plain.stdout)["chain"]
    assert (out / "chain.pem").read_text() == chain
    verified = subprocess.run(
        ["openssl", "verify", "-CAfile", out / "ca.pem", "-untrusted", out / "chain.pem", out / "cert.pem"],
        capture_output=True,
        check=False,
    )
    assert verified.returncode == 0, verified.stderr


def test_refusals_name_the_rule_and_exit_with_1(running: RunningManager) -> None:
    command = [PYTHON, "-m", "ostiary.cli", "--json", "agent", "request", "--subsystem", "component-harness"]
    command += ["--socket", str(running.socket)]
    found = subprocess.run(command, capture_output=True, env=ENVIRONMENT, check=False)
    assert found.returncode == 1
    assert json.loads(found.stderr)["rule"] == "spawn-agent"
    status = [PYTHON, "-m", "ostiary.cli", "certmgr", "status", "--socket", str(running.socket)]
    shown = subprocess.run(
        status, capture_output=True, text=True, env=ENVIRONMENT | {"COLUMNS": "200"}, check=True
    )
    assert "certificate-manager" in shown.stdout
    missing = [*status[:-1], str(running.directory / "nowhere")]
    assert subprocess.run(missing, capture_output=True, env=os.environ, check=False).returncode == 1
