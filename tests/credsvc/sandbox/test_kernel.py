"""The raw interface to the kernel: numbers as the system's headers have them, failures that raise."""

from __future__ import annotations

import errno
import os
import platform
import re
import sys
from pathlib import Path

import pytest

from credsvc.sandbox import kernel
from credsvc.sandbox.kernel import AARCH64, X86_64, LockdownError, Machine
from tests.support.need import require_file

HEADERS = {
    "x86_64": Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
    "aarch64": Path("/usr/include/asm-generic/unistd.h"),
}
# The generic table names the 64-bit variants of two calls by another word.
GENERIC_NAMES = {"fcntl": "__NR3264_fcntl", "lseek": "__NR3264_lseek", "mmap": "__NR3264_mmap",
                 "newfstatat": "__NR3264_fstatat", "fstat": "__NR3264_fstat"}  # fmt: skip


def numbers_in(header: Path) -> dict[str, int]:
    found = re.findall(r"^#define (__NR(?:3264)?_\w+) (\d+)", header.read_text(), re.MULTILINE)
    return {name: int(number) for name, number in found}


TABLES = {"aarch64": AARCH64} | ({"x86_64": X86_64} if platform.machine() == "x86_64" else {})
"""aarch64 has the generic table, whose header every machine has; that of x86_64 is there only on one."""


@pytest.mark.parametrize(("name", "machine"), TABLES.items(), ids=TABLES)
def test_numbers_are_the_systems_own(name: str, machine: Machine) -> None:
    header = require_file(HEADERS[name], why="the kernel's headers (scripts/system-packages.txt)")
    known = numbers_in(header)
    generic = GENERIC_NAMES if name == "aarch64" else {}
    wanted = {call: known[generic.get(call, f"__NR_{call}")] for call in machine.numbers}
    assert machine.numbers == wanted


def test_no_two_calls_of_a_machine_have_one_number() -> None:
    for machine in (X86_64, AARCH64):
        assert len(set(machine.numbers.values())) == len(machine.numbers)


def test_a_machine_without_a_table_has_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(LockdownError, match="riscv64"):
        kernel.this_machine()


def test_a_32_bit_python_has_no_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    with pytest.raises(LockdownError):
        kernel.this_machine()


def test_a_call_by_name_is_the_kernels() -> None:
    assert kernel.raw("getpid") == os.getpid()
    assert kernel.raw("getuid") == os.getuid()


def test_a_call_that_fails_names_its_step_and_reason() -> None:
    with pytest.raises(LockdownError, match=r"^close it: Bad file descriptor$") as failed:
        kernel.raw("close", 1 << 20, step="close it")
    assert (failed.value.step, failed.value.errno) == ("close it", errno.EBADF)
    with pytest.raises(LockdownError, match=r"^close: "):
        kernel.raw("close", 1 << 20)


def test_a_step_that_did_something_else_has_no_errno() -> None:
    assert str(LockdownError("capabilities are not empty", 0)) == "capabilities are not empty"


def test_an_attribute_of_the_process_is_read_and_a_bad_one_refused() -> None:
    assert kernel.prctl("read bounding set", kernel.PR_CAPBSET_READ, 0) in {0, 1}
    with pytest.raises(LockdownError) as failed:
        kernel.prctl("read bounding set", kernel.PR_CAPBSET_READ, 1 << 10)
    assert failed.value.errno == errno.EINVAL


def test_a_mount_that_is_not_allowed_or_not_there_fails_closed() -> None:
    with pytest.raises(LockdownError, match=r"^mount nothing: "):
        kernel.mount("mount nothing", b"none", b"/no/such/place", b"tmpfs", 0, b"")
    with pytest.raises(LockdownError, match=r"^detach: "):
        kernel.umount("detach", b"/no/such/place", 0)
