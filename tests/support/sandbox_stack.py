"""A running zygote and a pool on it, for tests: started in a directory of its own, stopped with nothing left
behind.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from credsvc.sandbox.client.control import import_path, zygote_argv
from credsvc.sandbox.client.pool import LoadedModule, ModuleDigest, SandboxPool
from credsvc.sandbox.client.private import BlockingSandbox
from tests.support.waiting import PATIENCE_S, until

LAUNCH = Path(__file__).with_name("sandbox_launch.py")
NOBODY = 65534

REQUEST: dict[str, Any] = {
    "request": {
        "method": "get",
        "path": "/photos/2026",
        "query": {"b": "2", "a": "1"},
        "headers": {"Host": "s3.example", "X-Amz-Date": "20260102T030405Z"},
        "payload_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    },
    "credential": {"region": "eu-north-1", "service": "s3", "access_key_id": "AKIDEXAMPLE"},
    "clock": {"amz_date": "20260102T030405Z", "epoch": 1767323045},
}

CONTROL = """
def sign(request, credential, clock):
    return {"formula": "control", "holes": {"method": request["method"].upper(), "t": clock["epoch"]}}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """One zygote process and a pool of its workers; `pool` waits for what `sandbox` is asked."""

    process: subprocess.Popen[bytes]
    sandbox: SandboxPool
    pool: BlockingSandbox
    folder: Path

    @property
    def log(self) -> str:
        """What the zygote wrote to stderr so far."""
        return (self.folder / "log").read_text("utf-8")

    def workers(self) -> list[int]:
        """Process ids of the zygote's children, the spare included."""
        return children(self.process.pid)

    def settle(self, count: int | None = None) -> None:
        """Wait until all that the zygote has are locked workers, and `count` of them: the next spare takes
        some ms.
        """

        def is_settled() -> bool:
            workers = self.workers()
            return bool(workers) and count in {None, len(workers)} and all(map(is_bare, workers))

        until(is_settled, lambda: f"{len(self.workers())} workers, {count} wanted")


def module(source: str) -> LoadedModule:
    digest = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()
    return LoadedModule(digest=ModuleDigest(digest), source=source)


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii")
    return [int(each) for each in text.split()]


def is_bare(worker: int) -> bool:
    """A locked worker without children and with no descriptor but its channel and /dev/null."""
    try:
        if children(worker) or "Seccomp:\t2" not in Path(f"/proc/{worker}/status").read_text("ascii"):
            return False
        return os.geteuid() != 0 or {path.name for path in Path(f"/proc/{worker}/fd").iterdir()} == {
            "0",
            "1",
            "2",
            "3",
        }
    except (FileNotFoundError, ProcessLookupError):
        return False


@contextmanager
def running(
    *,
    language: str = "restricted",
    user: int | None = None,
    off: str = "-",
    without: tuple[str, ...] = (),
    max_workers: int = 4,
) -> Iterator[Stack]:
    """A zygote with the layers that the test wants; `user` is whom it becomes before it makes workers."""
    folder = Path(tempfile.mkdtemp(prefix="ost"))
    folder.chmod(0o711)
    if user is not None:
        os.chown(folder, user, user)
    control = folder / "control"
    argv = zygote_argv(control, allowed_uids=[os.getuid()], without=without)
    arguments = argv[argv.index("--control") :]
    who = "-" if user is None else str(user)
    command = [sys.executable, "-I", "-S", str(LAUNCH), ":".join(import_path()), language, who, off]
    try:
        process = start([*command, *arguments], folder)
        sandbox = SandboxPool(control, max_workers=max_workers)
        pool = BlockingSandbox(sandbox)
        try:
            yield Stack(process=process, sandbox=sandbox, pool=pool, folder=folder)
        finally:
            pool.close()
            stop(process)
    finally:
        shutil.rmtree(folder)


def start(command: list[str], folder: Path) -> subprocess.Popen[bytes]:
    """Start a zygote and wait until it is ready; raises with its log when it isn't."""
    ready, writes = os.pipe()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env={"OSTIARY_READY_FD": str(writes)}, pass_fds=[writes], stderr=log
        )
    os.close(writes)
    said = os.read(ready, 1)
    os.close(ready)
    if said != b"R":
        process.wait()
        raise RuntimeError((folder / "log").read_text("utf-8"))
    return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a zygote and see that its workers went with it."""
    workers = children(process.pid) if process.poll() is None else []
    process.terminate()
    process.wait(timeout=PATIENCE_S)
    for worker in workers:
        wait_gone(worker)


def wait_gone(pid: int) -> None:
    """Wait until a process has ended; one that only waits for init to bury it has."""
    until(lambda: not _is_alive(pid), f"the end of process {pid}")


def _is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text("ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
