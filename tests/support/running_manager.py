"""A manager as a process of its own, and programs that claim from it."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from certmgr.client import ManagerError, call
from certmgr.watch import LOOK_S
from keyutils import keyring
from keyutils.keyring import KeyringError
from tests.support import waiting
from tests.support.fake_ca import FakeCA
from tests.support.ports import free_port
from tests.support.repository import ROOT
from tests.support.waiting import PATIENCE_S

AGAIN = {"busy", "EAGAIN"}
"""Errors with which a manager, or the handler in its stead, asks to come again."""


def until(what: Callable[[], Any]) -> Any:
    """Repeat a question until the answer is true, also where the manager answers nothing or refuses."""

    def ask() -> Any:
        with contextlib.suppress(ManagerError):
            return what()
        return None

    return waiting.until(ask)


@dataclass(kw_only=True)
class RunningManager:
    """`ostiary certmgr serve` below a directory of the test's."""

    directory: Path
    document: dict[str, Any]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        return self.directory / "m.sock"

    @property
    def log(self) -> str:
        return (self.directory / "log").read_text()

    def start(self) -> None:
        file = self.directory / "bootstrap.json"
        file.write_text(json.dumps(self.document))
        command = [sys.executable, "-m", "ostiary.cli", "certmgr", "serve", "--bootstrap", str(file)]
        command += ["--socket", str(self.socket), "--listen", f"127.0.0.1:{self.port}"]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        until(self.status)

    def kill(self) -> None:
        """Kill it without warning, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        until(lambda: not self.answers())

    def stop(self) -> None:
        """End the manager, and remove the records that it left in the kernel for its next start."""
        self._terminate()
        with contextlib.suppress(KeyringError):
            name = f"ostiary-certmgr:{self.manager}"
            ring = keyring.search(keyring.USER_KEYRING, "keyring", name)
            keyring.clear(ring)
            keyring.unlink(ring, keyring.USER_KEYRING)

    def _terminate(self) -> None:
        if self.process is not None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def answers(self) -> bool:
        try:
            return bool(self.status())
        except ManagerError:
            return False

    def status(self) -> dict[str, Any]:
        return call(self.socket, "GET", "/v1/status")

    def watches(self, pid: int) -> bool:
        """Whether the manager would be woken by the end of that process: it holds a descriptor of it."""
        assert self.process is not None
        try:
            return any(f"\nPid:\t{pid}\n" in text for text in _descriptors(self.process.pid))
        except PermissionError:  # only root sees them
            time.sleep(8 * LOOK_S)
            return True

    def row(self, agent: str) -> dict[str, Any]:
        return next((row for row in self.status()["agents"] if row["agent"] == agent), {})

    def state(self, agent: str) -> str:
        return str(self.row(agent).get("state", ""))

    @property
    def manager(self) -> str:
        return str(self.document["tokens"]["certificate-manager"]["agent"])

    @property
    def controller(self) -> dict[str, str]:
        """Agent and token of the node controller."""
        found: dict[str, str] = self.document["tokens"]["node-controller"]
        return found

    def when_active(self) -> None:
        until(lambda: {self.state(self.manager), self.state(self.controller["agent"])} == {"active"})


def _descriptors(pid: int) -> Iterator[str]:
    """What /proc says of the open descriptors of a process."""
    for path in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            yield path.read_text("ascii")


def start_manager(fake: FakeCA, directory: Path) -> RunningManager:
    """Start a manager that proves itself to this authority; the caller stops it."""
    running = RunningManager(directory=directory, document=fake.bootstrap())
    fake.dial = ("127.0.0.1", running.port)
    running.start()
    return running


PYTHON = sys.executable
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}


class ClaimingProgram:
    """A program that claims on a test's orders (`tests/support/claiming_program.py`).

    It leads a session of its own, and may have another user or a cgroup.
    """

    def __init__(
        self,
        running: RunningManager,
        *,
        uid: int | None = None,
        cgroup: Path | None = None,
        is_orphaned: bool = False,
    ) -> None:
        """`is_orphaned`: in a session whose leader has ended, as under nohup or cron."""
        command = [PYTHON, str(ROOT / "tests/support/claiming_program.py"), str(running.socket)]
        command += [] if uid is None else [str(uid)]

        def enter() -> None:
            os.setsid()
            if is_orphaned and os.fork():
                os._exit(0)
            if cgroup is not None:
                (cgroup / "cgroup.procs").write_text(str(os.getpid()))

        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=ENVIRONMENT,
            preexec_fn=enter,  # noqa: PLW1509 - no threads of ours hold locks at this point
        )

    def __call__(self, do: str, **order: Any) -> dict[str, Any]:
        """Have something done, again while the answer is to come again."""
        answers: list[dict[str, Any]] = []

        def is_told() -> bool:
            answers.append(self.once(do, **order))
            return answers[-1].get("error") not in AGAIN

        waiting.until(is_told, lambda: answers[-1])
        return answers[-1]

    def once(self, do: str, **order: Any) -> dict[str, Any]:
        """Have something done once."""
        self.tell(do, **order)
        return self.answer()

    def tell(self, do: str, **order: Any) -> None:
        """Say what is to be done; `answer` waits for it."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do} | order).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def has_answered(self) -> bool:
        """Whether an answer is there to be read."""
        assert self.process.stdout is not None
        return bool(select.select([self.process.stdout], [], [], 0)[0])

    def end(self) -> None:
        """Close its streams, which ends it and whatever it has become."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if self.process.stdout.closed:
            return
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.read()
        self.process.stdout.close()
        self.process.wait(PATIENCE_S)
