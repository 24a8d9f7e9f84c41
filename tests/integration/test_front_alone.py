"""A front without an arbiter: what ends it, and how it tells."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.packet_socket import peer_of
from tests.support.fronts import ask
from tests.support.repository import ROOT
from tests.support.waiting import PATIENCE_S, until

pytestmark = pytest.mark.slow

SCRIPT = """
import asyncio, signal, sys, time
from pathlib import Path
from ostiary.errors import Misconfigured
from ostiary.front.serve import listen_unix, run_alone
from ostiary.front.worker import Front, Served
from tests.support.fronts import SLOTS, make_app

async def goes_on(): await asyncio.Event().wait()
async def ends(): pass
async def blocks(): time.sleep(1000)
async def start(slot):
    SLOTS.append(slot)
    if sys.argv[2] == "refuses":
        raise Misconfigured("no certificate")
    return Served(app=make_app(), tls=None, tasks={"task": globals()[sys.argv[2]]})

wait_s = signal.alarm
signal.alarm = lambda seconds: wait_s(min(seconds, 3))
run_alone(Front(listeners=[listen_unix(Path(sys.argv[1]), mode=0o600)], start=start, workers=1))
print("returned")
"""


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="ostiary-") as directory:
        yield Path(directory) / "s"


def started(path: Path, task: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(path), task]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: subprocess.Popen[str]) -> tuple[int, str]:
    """Wait for its end; return its exit code and what it printed."""
    try:
        out, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    return process.returncode, out


def connected(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(PATIENCE_S)

    def accepts() -> bool:
        with contextlib.suppress(OSError):
            sock.connect(str(path))
            return True
        return False

    until(accepts)
    return sock


def test_it_returns_after_sigterm_and_takes_its_socket_along(path: Path) -> None:
    process = started(path, "goes_on")
    with connected(path) as sock:
        status, told = ask(sock)
    assert (status, told["worker"]) == (200, process.pid)
    process.terminate()
    assert ended(process) == (0, "returned\n")
    assert not path.exists()


@pytest.mark.parametrize("task", ["ends", "refuses"])
def test_it_fails_where_it_cannot_go_on(path: Path, task: str) -> None:
    code, out = ended(started(path, task))
    assert (code, out) == (3, "")


def test_it_is_ended_where_its_loop_no_longer_turns(path: Path) -> None:
    assert ended(started(path, "blocks")) == (-signal.SIGALRM, "")


def test_its_parents_end_is_not_its_own(path: Path) -> None:
    """As a daemon that a shell started."""
    command = ["sh", "-c", '"$@" >/dev/null 2>&1 & read line', "sh", sys.executable, "-c", SCRIPT]
    shell = subprocess.Popen([*command, str(path), "goes_on"], cwd=ROOT, stdin=subprocess.PIPE)
    with connected(path) as sock:
        assert ask(sock)[0] == 200
        pid = peer_of(sock).pid
        shell.communicate(b"\n", timeout=PATIENCE_S)
        until(lambda: f"PPid:\t{shell.pid}\n" not in Path(f"/proc/{pid}/status").read_text("ascii"))
        # Several signs of life later it is still there.
        assert not select.select([sock], [], [], 1.0)[0]
        assert ask(sock)[0] == 200
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    assert select.select([pidfd], [], [], PATIENCE_S)[0]
    os.close(pidfd)
