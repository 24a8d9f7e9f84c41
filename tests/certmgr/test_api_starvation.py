"""Local users that try to starve the manager's socket: another user is answered beside them.

No deadline ends them meanwhile (`tests/support/manager_socket.py`): when the other is answered they are still
there.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from certmgr import client
from certmgr.app import LIMITS
from tests.support.local_attackers import CLAIM, STATUS, Attacker
from tests.support.manager_records import CONTROLLER, token
from tests.support.need import require_root
from tests.support.repository import ROOT
from tests.support.running_manager import until
from tests.support.waiting import PATIENCE_S

pytestmark = pytest.mark.slow
SHARE = LIMITS.connections // 2


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    require_root()
    with tempfile.TemporaryDirectory(prefix="ostiary-") as directory:
        Path(directory).chmod(0o755)
        path = Path(directory) / "m.sock"
        command = [sys.executable, "-m", "tests.support.manager_socket", str(path)]
        with subprocess.Popen(command, cwd=ROOT) as process:
            until(lambda: client.call(path, "GET", "/v1/status"))
            yield path
            process.terminate()
            assert process.wait(PATIENCE_S) == 0


@pytest.fixture
def attack(path: Path) -> Iterator[Callable[..., Attacker]]:
    attackers: list[Attacker] = []

    def attack(uid: int, count: int, begins: bytes = b"", goes_on: bytes = b"") -> Attacker:
        attackers.append(Attacker(path, uid, count, begins, goes_on))
        return attackers[-1]

    yield attack
    for each in attackers:
        each.end()


def is_served(path: Path) -> bool:
    """Whether root, the node controller, gets its key and the status."""
    claimed = client.claim(path, token(9).reveal())
    return claimed.agent == CONTROLLER and bool(client.call(path, "GET", "/v1/status")["agents"])


@pytest.mark.parametrize(
    ("begins", "goes_on"),
    [
        pytest.param(b"", b"", id="silent"),
        pytest.param(b"POST /v1/cl", b"a", id="a head a byte at a time"),
        pytest.param(CLAIM + b"Content-Length: 900\r\n\r\n{", b" ", id="a body a byte at a time"),
        pytest.param(
            CLAIM + b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n", b"1\r\n \r\n", id="chunk after chunk"
        ),
    ],
)
def test_slow_clients_of_one_user_hold_no_other_up(
    path: Path, attack: Callable[..., Attacker], begins: bytes, goes_on: bytes
) -> None:
    """It has its share of connections and no more; nobody else's is given up for them."""
    attacker = attack(61_995, SHARE + 50, begins, goes_on)
    until(lambda: attacker.open() == SHARE)
    assert is_served(path)
    assert attacker.open() == SHARE, "none was given up for it"


def test_clients_that_read_no_answer_hold_no_other_up(path: Path, attack: Callable[..., Attacker]) -> None:
    attacker = attack(61_995, 40, STATUS * 40, STATUS * 40)
    for _ in range(20):
        attacker.open()
    assert is_served(path)
    assert attacker.open() == 40


def test_users_that_together_fill_the_socket_make_room(path: Path, attack: Callable[..., Attacker]) -> None:
    """Whoever has waited longest goes, and not the newcomer."""
    first, second = attack(61_995, SHARE), attack(61_996, SHARE)
    assert first.open() + second.open() == LIMITS.connections
    assert is_served(path)
    assert first.open() < SHARE


def test_a_user_that_floods_the_socket_is_refused_and_no_other(
    path: Path, attack: Callable[..., Attacker]
) -> None:
    """Its burst is spent; the clock of this socket stands still, so it gets no more."""
    attacker = attack(61_997, 40, STATUS * 100, STATUS)
    script = (
        "import os, sys; from certmgr import client\n"
        "os.setresuid(61997, 61997, 61997)\n"
        "try: client.call(sys.argv[1], 'GET', '/v1/status')\n"
        "except client.ManagerError as exc: print(exc.kind, exc)\n"
    )
    asked = [sys.executable, "-c", script, str(path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}

    def refused() -> str:
        return subprocess.run(asked, capture_output=True, text=True, env=environment, check=True).stdout

    until(lambda: refused() == "busy user 61997 asks too often; retry\n")
    assert is_served(path)
    assert attacker.open() == 40
