"""The system calls by number: on the machines that are known, with errno as the kernel set it."""

from __future__ import annotations

import errno
import platform
from typing import TYPE_CHECKING

import pytest

from keyutils import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyutils.keyring import KeySerial


@pytest.fixture
def numbers_anew() -> Iterator[None]:
    syscalls._numbers.cache_clear()
    yield
    syscalls._numbers.cache_clear()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64", "riscv64"])
@pytest.mark.usefixtures("numbers_anew")
def test_the_three_calls_stand_side_by_side(machine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """add_key, request_key, keyctl: consecutive in both tables of <asm/unistd.h>."""
    monkeypatch.setattr(platform, "machine", lambda: machine)
    first = syscalls._numbers()[0]
    assert syscalls._numbers() == (first, first + 1, first + 2)
    assert first == (248 if machine == "x86_64" else 217)


@pytest.mark.usefixtures("numbers_anew")
def test_unknown_machine_is_enosys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "vax")
    with pytest.raises(OSError, match="vax") as caught:
        syscalls._numbers()
    assert caught.value.errno == errno.ENOSYS


def test_a_refusal_carries_the_kernels_errno(session: KeySerial) -> None:
    with pytest.raises(OSError, match="Required key not available") as caught:
        syscalls.keyctl(syscalls.KEYCTL_SEARCH, session, b"user", b"ostiary-test:none", 0)
    assert caught.value.errno == errno.ENOKEY


def test_an_operation_that_the_kernel_does_not_have_is_eopnotsupp(session: KeySerial) -> None:
    with pytest.raises(OSError, match="not supported") as caught:
        syscalls.keyctl(9_999, session)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_special_serials_reach_the_kernel_as_negative_numbers(session: KeySerial) -> None:
    assert syscalls.keyctl(syscalls.KEYCTL_GET_KEYRING_ID, -3, 0) == session
