"""Local users that hold connections to a manager's socket and mean no good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.waiting import PATIENCE_S

CLAIM = b"POST /v1/claim HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
STATUS = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"

ATTACKER = """
import os, socket, sys
path, uid, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
begins, goes_on = (bytes.fromhex(text) for text in sys.argv[4:6])
os.setresuid(uid, uid, uid)
held = []
def tell(sock, data):
    try:
        sock.send(data, socket.MSG_DONTWAIT)
    except OSError:
        pass
def is_open(sock):
    try:
        return sock.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
for _ in range(count):
    held.append(socket.socket(socket.AF_UNIX))
    held[-1].connect(path)
    tell(held[-1], begins)
for line in sys.stdin:
    for sock in held:
        tell(sock, goes_on)
    print(sum(map(is_open, held)), flush=True)
"""


class Attacker:
    """Connections of a user: each says how it begins, and goes on whenever it is asked how many are open."""

    def __init__(self, path: Path, uid: int, count: int, begins: bytes, goes_on: bytes) -> None:
        given = [str(uid), str(count), begins.hex(), goes_on.hex()]
        self.process = subprocess.Popen(
            [sys.executable, "-c", ATTACKER, str(path), *given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.open()

    def open(self) -> int:
        """How many of the connections the manager keeps."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def end(self) -> None:
        self.process.communicate("", timeout=PATIENCE_S)
