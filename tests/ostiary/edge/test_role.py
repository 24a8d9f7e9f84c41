"""What a role says first, and with whom it dies."""

from __future__ import annotations

import os

import pytest

from ostiary.edge.role import READY_FD_VARIABLE, announce_ready, die_with_parent


def test_ready_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    read_fd, write_fd = os.pipe()
    monkeypatch.setenv(READY_FD_VARIABLE, str(write_fd))
    announce_ready()
    announce_ready()
    assert os.read(read_fd, 10) == b"R"
    assert os.read(read_fd, 10) == b""
    os.close(read_fd)


def test_nobody_to_tell_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(READY_FD_VARIABLE, raising=False)
    announce_ready()
    read_fd, write_fd = os.pipe()
    os.close(read_fd)
    monkeypatch.setenv(READY_FD_VARIABLE, str(write_fd))
    announce_ready()


def test_a_child_whose_parent_is_another_ends_at_once() -> None:
    child = os.fork()
    if child == 0:
        die_with_parent(os.getpid())  # not its parent
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 1
