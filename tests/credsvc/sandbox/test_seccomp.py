"""The filter program, read by a small BPF machine: both architectures, without loading it."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from credsvc.sandbox.kernel import AARCH64, X86_64, Machine
from credsvc.sandbox.seccomp import build_filter

ALLOW, EPERM, KILL = 0x7FFF0000, 0x00050001, 0x80000000
MACHINES = [pytest.param(X86_64, id="x86_64"), pytest.param(AARCH64, id="aarch64")]
READ_WRITE, EXECUTE = 3, 4
ANONYMOUS, PRIVATE, SHARED = 0x20, 0x02, 0x01


def decide(machine: Machine, number: int, *arguments: int, arch: int | None = None) -> int:
    """Run the filter on one system call (struct seccomp_data: nr, arch, ip, six 64-bit arguments)."""
    program = build_filter(machine)
    padded = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack("<IIQ6Q", number, machine.audit_arch if arch is None else arch, 0, *padded)
    position, accumulator = 0, 0
    while True:
        code, when_true, when_false, value = struct.unpack_from("<HBBI", program, 8 * position)
        position += 1
        if code == 0x20:
            accumulator = struct.unpack_from("<I", data, value)[0]
        elif code == 0x06:
            return int(value)
        else:
            holds = {
                0x15: accumulator == value,
                0x35: accumulator >= value,
                0x45: bool(accumulator & value),
            }[code]
            position += when_true if holds else when_false


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("name", ["read", "write"])
def test_only_the_channel_is_read_and_written(machine: Machine, name: str) -> None:
    assert decide(machine, machine.numbers[name], 3) == ALLOW
    for other in (0, 1, 2, 4, 0xFFFFFFFF):
        assert decide(machine, machine.numbers[name], other) == KILL


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize(
    ("protection", "flags", "decision"),
    [
        (READ_WRITE, ANONYMOUS | PRIVATE, ALLOW),
        (0, ANONYMOUS | SHARED, ALLOW),
        (READ_WRITE | EXECUTE, ANONYMOUS | PRIVATE, KILL),
        (EXECUTE, ANONYMOUS | PRIVATE, KILL),
        (READ_WRITE, PRIVATE, KILL),
        (READ_WRITE | 1 << 32, ANONYMOUS | PRIVATE, KILL),
        (READ_WRITE | 1 << 24, ANONYMOUS | PRIVATE, KILL),
        (READ_WRITE, ANONYMOUS | PRIVATE | 1 << 32, KILL),
    ],
)
def test_memory_is_anonymous_and_never_executable(
    machine: Machine, protection: int, flags: int, decision: int
) -> None:
    assert decide(machine, machine.numbers["mmap"], 0, 4096, protection, flags) == decision


@pytest.mark.parametrize("machine", MACHINES)
def test_each_named_call_is_decided(machine: Machine) -> None:
    asked_for = {"munmap", "brk", "mremap", "madvise", "futex", "rt_sigreturn", "exit_group"}
    setup_only = {"unshare", "pivot_root", "capget", "capset", "seccomp"}
    setup_only |= {name for name in machine.numbers if name.startswith("landlock")}
    for name, number in machine.numbers.items():
        if name in asked_for:
            assert decide(machine, number) == ALLOW, name
        elif name in setup_only:
            assert decide(machine, number) == KILL, name
    for name in {"open", "openat", "newfstatat", "getpid", "kill", "ioctl", "close"} & machine.numbers.keys():
        assert decide(machine, machine.numbers[name]) == EPERM, name


@pytest.mark.parametrize("machine", MACHINES)
def test_all_other_calls_kill(machine: Machine) -> None:
    named = set(machine.numbers.values())
    for number in (*range(600), 0xFFFFFFFF):
        if number not in named:
            assert decide(machine, number) == KILL, number


@pytest.mark.parametrize("machine", MACHINES)
def test_another_architecture_kills(machine: Machine) -> None:
    for arch in (0x40000003, 0, 0x40000028):  # i386, nothing, 32-bit arm
        assert decide(machine, machine.numbers["brk"], arch=arch) == KILL


def test_the_x32_table_kills() -> None:
    assert decide(X86_64, 0x40000000 | X86_64.numbers["read"], 3) == KILL


@pytest.mark.parametrize(
    ("machine", "header", "prefix"),
    [
        pytest.param(X86_64, "x86_64-linux-gnu/asm/unistd_64.h", "__NR_", id="x86_64"),
        pytest.param(AARCH64, "asm-generic/unistd.h", "__NR(?:3264)?_", id="aarch64"),
    ],
)
def test_numbers_are_those_of_the_kernel_headers(machine: Machine, header: str, prefix: str) -> None:
    path = Path("/usr/include") / header
    if not path.exists():
        pytest.skip(f"no independent source here: {path} is not installed")
    text = path.read_text("ascii")
    # The generic header spells three calls by their 32-bit names too; the 64-bit ones are under __NR3264_.
    numbers = {name: int(number) for name, number in re.findall(rf"#define {prefix}(\w+)\s+(\d+)\s", text)}
    aliases = {"newfstatat": "fstatat"} if machine is AARCH64 else {}
    for name, number in machine.numbers.items():
        if name in numbers or aliases.get(name, name) in numbers:
            assert numbers.get(name, numbers.get(aliases.get(name, name))) == number, name
    assert len(machine.numbers.keys() & numbers.keys()) >= len(machine.numbers) - 8
