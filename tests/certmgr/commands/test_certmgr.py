"""`ostiary certmgr`: what `status` shows of a running manager, and where `serve` refuses to start."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from tests.support.running_manager import ENVIRONMENT, PYTHON, RunningManager

CERTMGR = [PYTHON, "-m", "ostiary.cli", "--json", "certmgr"]


@pytest.mark.slow
def test_status_shows_the_agents_of_the_manager_behind_the_socket(running: RunningManager) -> None:
    command = [PYTHON, "-m", "ostiary.cli", "certmgr", "status", "--socket", str(running.socket)]
    shown = subprocess.run(
        command, capture_output=True, text=True, env=ENVIRONMENT | {"COLUMNS": "200"}, check=True
    )
    assert "certificate-manager" in shown.stdout
    assert "unclaimed" in shown.stdout


def test_status_without_a_manager_exits_with_1(tmp_path: Path) -> None:
    command = [*CERTMGR, "status", "--socket", str(tmp_path / "nowhere")]
    found = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert found.returncode == 1
    assert json.loads(found.stderr)["type"] == "urn:ostiary:problem:busy"


@pytest.mark.parametrize("address", ["nowhere", "0.0.0.0", "0.0.0.0:https", "0.0.0.0:65536"])
def test_serve_refuses_an_address_that_is_no_host_and_port(tmp_path: Path, address: str) -> None:
    """The address is read before anything is served: the bootstrap document is good."""
    from tests.support.fake_ca import FakeCA

    document = tmp_path / "bootstrap.json"
    document.write_text(json.dumps(FakeCA(address=("127.0.0.1", 8443)).bootstrap()))
    socket = tmp_path / "m.sock"
    command = [*CERTMGR, "serve", "--bootstrap", str(document), "--socket", str(socket), "--listen", address]
    found = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    assert found.returncode == 1
    assert json.loads(found.stderr)["field"] == "listen"
    assert not socket.exists()
