"""What the kernel says of a locked worker, and what single layers refuse when others are switched off."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from credsvc.sandbox.client.control import zygote_argv
from credsvc.sandbox.client.faults import Fault, SandboxFault
from credsvc.sandbox.client.pool import SandboxPool
from credsvc.sandbox.client.private import BlockingSandbox
from credsvc.sandbox.kernel import LockdownError
from credsvc.sandbox.landlock import supported_abi
from tests.support.need import require_kernel, require_root
from tests.support.sandbox_stack import (
    CONTROL,
    NOBODY,
    REQUEST,
    Stack,
    children,
    module,
    running,
    start,
    wait_gone,
)
from tests.support.waiting import until


def _landlock_abi() -> int:
    try:
        return supported_abi()
    except LockdownError:
        return 0


def _attempt(stack: Stack, body: str) -> str:
    """Run hostile code without the language layer; returns what it says, or the fault."""
    lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
    source = f"import os, socket, ctypes\ndef attempt(request, credential, clock):\n{lines}\n"
    source += """
def sign(request, credential, clock):
    try:
        return {"formula": "f", "holes": {"text": str(attempt(request, credential, clock))}}
    except OSError as exc:
        return {"formula": "f", "holes": {"text": type(exc).__name__ + " " + str(exc.errno)}}
"""
    try:
        return str(stack.pool.run(module(source), "sign", REQUEST, 10.0).holes["text"])
    except SandboxFault as exc:
        return exc.fault.value


@pytest.fixture(scope="module")
def locked() -> Iterator[Stack]:
    with running() as stack:
        stack.pool.run(module(CONTROL), "sign", REQUEST, 10.0)
        yield stack


def _status(pid: int) -> dict[str, str]:
    text = Path(f"/proc/{pid}/status").read_text("ascii")
    return {
        name: value.strip() for name, _colon, value in (line.partition(":") for line in text.splitlines())
    }


def test_the_kernel_says_that_a_worker_is_locked(locked: Stack) -> None:
    status = _status(_busy_worker(locked))
    assert status["Seccomp"] == "2"
    assert status["NoNewPrivs"] == "1"
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0" * 16}
    assert status["NSpid"].split()[-1] == "1"
    assert status["Threads"] == "1"


def test_a_worker_lives_in_namespaces_of_its_own(locked: Stack) -> None:
    require_root()
    worker = _busy_worker(locked)
    for name in ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts"):
        assert Path(f"/proc/{worker}/ns/{name}").readlink() != Path(f"/proc/self/ns/{name}").readlink(), name
    assert not list(Path(f"/proc/{worker}/root").iterdir())
    assert Path(f"/proc/{worker}/limits").read_text("ascii").count(" 0                    0 ") >= 5
    assert Path(f"/proc/{worker}/environ").read_bytes().count(b"=") == 1  # the zygote's: OSTIARY_READY_FD


def test_root_gives_each_worker_a_user_of_its_own(locked: Stack) -> None:
    require_root()
    locked.settle()
    users = {_status(worker)["Uid"].split()[0] for worker in locked.workers()}
    assert len(users) == len(locked.workers())
    assert all(int(user) >= 2_000_000_000 for user in users)


def _busy_worker(stack: Stack) -> int:
    """The lowest pid is the one that was handed out first; the spare came after it."""
    return min(stack.workers())


@pytest.fixture(scope="module", params=[False, True], ids=["namespaces on", "namespaces off"])
def as_nobody(request: pytest.FixtureRequest) -> Iterator[Stack]:
    """The whole stack under an ordinary user; as that user already where the tests are not root."""
    user = NOBODY if os.geteuid() == 0 else None
    with running(
        user=user, language="unrestricted", without=("namespaces",) if request.param else ()
    ) as stack:
        yield stack


def test_works_for_an_ordinary_user(as_nobody: Stack) -> None:
    assert _attempt(as_nobody, "return 1 + 1") == "2"
    assert "1" in _attempt(as_nobody, "return open('/etc/passwd').read()")
    worker = _status(_busy_worker(as_nobody))
    assert worker["Seccomp"] == "2"
    assert worker["CapEff"] == "0" * 16


HOSTILE = {
    "a file": "return open('/etc/passwd').read()",
    "a new file": "return open('/tmp/ostiary-was-here', 'w')",
    "a directory": "return os.listdir('/')",
    "a TCP socket": "return socket.socket().connect(('127.0.0.1', 1))",
    "a UNIX socket": "return socket.socket(socket.AF_UNIX)",
    "a vsock": "return socket.socket(40, socket.SOCK_STREAM)",
    "a process": "return os.fork()",
    "a thread": "import threading\nthreading.Thread(target=print).start()",
    "a program": "os.execv('/bin/true', ['true'])",
    "the zygote": "os.kill(os.getppid(), 9)",
}


@pytest.mark.parametrize(
    "without", [(), ("namespaces",), ("landlock",), ("namespaces", "landlock")], ids="+".join
)
def test_seccomp_refuses_whatever_else_is_off(without: tuple[str, ...]) -> None:
    with running(language="unrestricted", without=without) as stack:
        for name, body in HOSTILE.items():
            said = _attempt(stack, body)
            assert said in {"PermissionError 1", Fault.CRASHED.value, Fault.MODULE_RAISED.value}, (name, said)
        assert _attempt(stack, "return 'still here'") == "still here"
    assert not Path("/tmp/ostiary-was-here").exists()


def test_a_violation_is_logged_by_the_zygote_with_digest_and_signal() -> None:
    ptrace = 101
    source = "import ctypes\ndef sign(request, credential, clock):\n"
    source += f"    ctypes.CDLL(None).syscall({ptrace}, 0, 0, 0)\n"
    violating = module(source)
    with running(language="unrestricted") as stack:
        with pytest.raises(SandboxFault) as caught:
            stack.pool.run(violating, "sign", REQUEST, 10.0)
        assert caught.value.fault is Fault.CRASHED
        # The caller knows of the end before the zygote has written about it.
        until(lambda: f'"module": "{violating.digest}", "signal": 31' in stack.log)


def test_namespaces_refuse_without_seccomp_and_landlock() -> None:
    with running(language="unrestricted", off="seccomp", without=("landlock",)) as stack:
        assert _attempt(stack, HOSTILE["a file"]) == "FileNotFoundError 2"
        assert _attempt(stack, HOSTILE["a new file"]) == "FileNotFoundError 2"  # there is no /tmp
        assert _attempt(stack, "return open('/x', 'w')") == "OSError 30"  # read-only file system
        assert _attempt(stack, HOSTILE["a directory"]) == "[]"
        assert _attempt(stack, HOSTILE["a TCP socket"]) == "OSError 101"  # network is unreachable
        assert _attempt(stack, HOSTILE["a process"]) in {"BlockingIOError 11", "PermissionError 1"}
        assert _attempt(stack, "return os.getpid(), os.getppid()") == "(1, 0)"
        assert _attempt(stack, f"os.kill({stack.process.pid}, 9)") == "ProcessLookupError 3"
        _attempt(stack, "os.kill(0, 9)")
        assert stack.process.poll() is None


def test_a_worker_of_the_same_user_cannot_kill_its_process_group() -> None:
    """Process groups cross pid namespaces: without setsid the zygote, who is the same user here, would die
    too.
    """
    user = NOBODY if os.geteuid() == 0 else None
    with running(user=user, language="unrestricted", off="seccomp", without=("landlock",)) as stack:
        _attempt(stack, "os.kill(0, 9)")
        assert _attempt(stack, "return 'still here'") == "still here"


def test_landlock_refuses_without_seccomp_and_namespaces() -> None:
    require_kernel("Landlock", present=_landlock_abi() >= 1)
    with running(language="unrestricted", off="seccomp", without=("namespaces",)) as stack:
        assert _attempt(stack, HOSTILE["a file"]) == "PermissionError 13"
        assert _attempt(stack, HOSTILE["a new file"]) == "PermissionError 13"
        assert _attempt(stack, HOSTILE["a directory"]) == "PermissionError 13"
        if _landlock_abi() >= 4:
            assert _attempt(stack, HOSTILE["a TCP socket"]) == "PermissionError 13"
        if _landlock_abi() >= 6:
            assert _attempt(stack, HOSTILE["the zygote"]) == "PermissionError 1"


# A user namespace in which no further one may be made, as in many containers.
NO_MORE_NAMESPACES = """
import ctypes, os, sys
ctypes.CDLL(None).unshare(0x10000000)
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.execv(sys.argv[1], sys.argv[1:])
"""


def _in_container(folder: Path, without: list[str]) -> subprocess.CompletedProcess[str]:
    argv = zygote_argv(folder / "control", allowed_uids=[0], without=without)
    command = [sys.executable, "-c", NO_MORE_NAMESPACES, *argv]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={})


def test_fails_closed_where_namespaces_cannot_be_had(tmp_path: Path) -> None:
    """The zygote says which step failed and does not start; nothing listens."""
    done = _in_container(tmp_path, [])
    assert done.returncode == 1
    assert (
        "the sandbox can't be locked down here: unshare(user): No space left on device; seccomp"
        in done.stderr
    )
    assert not (tmp_path / "control").exists()


def test_no_setting_drops_seccomp(tmp_path: Path) -> None:
    done = _in_container(tmp_path, ["seccomp"])
    assert done.returncode != 0
    assert "unknown option '--without' 'seccomp'" in done.stderr


def test_workers_end_with_the_zygote(tmp_path: Path) -> None:
    control = tmp_path / "control"
    process = start(zygote_argv(control, allowed_uids=[os.getuid()], without=[]), tmp_path)
    pool = BlockingSandbox(SandboxPool(control, max_workers=2))
    pool.run(module(CONTROL), "sign", REQUEST, 10.0)
    workers = children(process.pid)
    assert workers
    process.kill()
    process.wait()
    for worker in workers:
        wait_gone(worker)
    pool.close()
