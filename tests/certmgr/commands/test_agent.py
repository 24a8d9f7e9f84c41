"""`ostiary agent` against a running manager: who gets the key, and where else it must not appear."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.running_manager import ENVIRONMENT, PYTHON, RunningManager

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("upcall")]
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
