"""The processes of a demonstration: started with their logs in its directory, stopped in reverse order.

No process outlives the demonstration. No secret is passed in an argument or the environment: a process reads
its secrets from its standard input.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ostiary.errors import Misconfigured

_STOP_S = 10.0


def ostiary_argv(*arguments: str) -> list[str]:
    """Return the argument list of an `ostiary` command of this installation."""
    return [sys.executable, "-m", "ostiary.cli", *arguments]


def free_port() -> int:
    """Return a TCP port of loopback on which nobody listens now."""
    # Another process may take it before the service binds it; then the run fails with the service's message,
    # which is acceptable for a demonstration.
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


class Processes:
    """Everything that a demonstration runs."""

    def __init__(self, directory: Path) -> None:
        self._logs = directory / "logs"
        self._logs.mkdir(mode=0o755)
        self._running: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(
        self, name: str, argv: Sequence[str], *, secret_input: bytes | None = None, piped: bool = False
    ) -> subprocess.Popen[bytes]:
        """Start a process and write `secret_input` to its standard input, which stays open if `piped`."""
        log = (self._logs / f"{name}.log").open("wb")
        with log:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if piped or secret_input is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else log,
                stderr=log,
                # A process group of its own: `stop` can kill all of it, and Ctrl-C reaches the demonstration
                # only.
                start_new_session=True,
            )
        self._running.append((name, process))
        if secret_input is not None and process.stdin is not None:
            process.stdin.write(secret_input)
            process.stdin.flush()
            if not piped:
                process.stdin.close()
        return process

    def run(self, *arguments: str, secret_input: str = "") -> Any:
        """Run an `ostiary` command with --json and return its result; Misconfigured has its error output."""
        done = subprocess.run(
            ostiary_argv("--json", *arguments),
            input=secret_input,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise Misconfigured(
                f"`ostiary {' '.join(arguments)}` ended with {done.returncode}: {done.stderr.strip()}"
            )
        return json.loads(done.stdout) if done.stdout.strip() else None

    def pids(self) -> Mapping[str, int]:
        """Return the pids of the processes started here, by name."""
        return {name: process.pid for name, process in self._running}

    def wait_until(self, check: Callable[[], bool], what: str, *, within_s: float) -> None:
        """Wait until `check` holds; Misconfigured names `what` did not happen, or the process that ended."""
        deadline_s = time.monotonic() + within_s
        while not check():
            # A dead process is the cause, and nobody should have to wait for the deadline to learn it.
            for name, process in self._running:
                if process.poll() not in {None, 0}:
                    raise Misconfigured(
                        f"{name} ended with {process.returncode}: see '{self._logs}/{name}.log'"
                    )
            if time.monotonic() > deadline_s:
                raise Misconfigured(f"{what} did not happen within {within_s:.0f} s: see '{self._logs}'")
            time.sleep(0.02)

    def stop(self) -> None:
        """Stop everything, the last one first."""
        # A service depends on those started before it: in this order each can still finish its work.
        for _, process in reversed(self._running):
            if process.poll() is None:
                process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                # With its group, so that no role of a hung supervisor stays.
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()


class Dialogue:
    """A dialogue in JSON lines with a process: one question, one answer."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def ask(self, **question: Any) -> Any:
        """Send one line and read one."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("a dialogue needs both pipes")
        self._process.stdin.write(json.dumps(question).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise Misconfigured(
                "a process of the demonstration ended before it answered a question: see its log"
            )
        return json.loads(line)
