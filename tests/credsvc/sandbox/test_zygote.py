"""The zygote's control channel: who may ask, what it answers, whose workers end when."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from credsvc.sandbox.client import control
from credsvc.sandbox.client.control import (
    NOBODY_KNOWS,
    NOT_YET_KNOWN,
    SpawnedWorker,
    ZygoteClient,
    ZygoteLate,
    ZygoteUnavailable,
    zygote_argv,
)
from credsvc.sandbox.zygote import parse_arguments
from tests.support.sandbox_stack import Stack, running, start, stop, wait_gone
from tests.support.waiting import PATIENCE_S, RUNS_OUT_S, at_least

DIGEST = "ab" * 32


@pytest.fixture
def stack() -> Iterator[Stack]:
    with running() as made:
        yield made


def connect(stack: Stack) -> socket.socket:
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    channel.settimeout(PATIENCE_S)
    channel.connect(str(stack.folder / "control"))
    return channel


def test_arguments() -> None:
    settings = parse_arguments(
        ["--control", "/c", "--allow-uid", "7", "--allow-uid", "8", "--without", "landlock"]
    )
    assert settings.control_path == "/c"
    assert settings.allowed_uids == {7, 8}
    assert settings.layers.namespaces
    assert not settings.layers.landlock


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--control", "/c"],
        ["--allow-uid", "7"],
        ["--control", "/c", "--allow-uid", "x"],
        ["--control", "/c", "--allow-uid", "7", "--without", "seccomp"],
        ["--control", "/c", "--allow-uid", "7", "--verbose", "1"],
        ["--control", "/c", "--allow-uid"],
    ],
)
def test_wrong_arguments(arguments: list[str]) -> None:
    with pytest.raises(ValueError, match=r"want|require|option|literal"):
        parse_arguments(arguments)


def test_spawn_and_kill_answer_in_order(stack: Stack) -> None:
    async def story() -> None:
        client = ZygoteClient(stack.folder / "control")
        asked = [client.spawn(DIGEST), client.spawn(DIGEST)]
        first, second = await asyncio.gather(*asked)
        assert first.worker_id != second.worker_id
        kills = [client.kill(first.worker_id), client.kill(first.worker_id)]
        assert [await each for each in kills] == [9, -1]
        _check_ended(first)
        _check_alive(second)
        client.close()

    asyncio.run(story())


def test_the_end_of_a_connection_ends_its_workers_only(stack: Stack) -> None:
    async def story() -> None:
        one, other = ZygoteClient(stack.folder / "control"), ZygoteClient(stack.folder / "control")
        mine, theirs = await one.spawn(DIGEST), await other.spawn(DIGEST)
        assert await other.kill(mine.worker_id) == -1  # not its own
        one.close()
        _check_ended(mine)
        _check_alive(theirs)
        other.close()

    asyncio.run(story())


def _check_ended(spawned: SpawnedWorker) -> None:
    with spawned.channel as channel:
        channel.settimeout(PATIENCE_S)
        assert channel.recv(1) == b""


def _check_alive(spawned: SpawnedWorker) -> None:
    with spawned.channel as channel:
        channel.setblocking(False)
        with pytest.raises(BlockingIOError):
            channel.recv(1)


def test_a_worker_whose_host_forgets_it_leaves_by_itself(stack: Stack) -> None:
    async def story() -> None:
        client = ZygoteClient(stack.folder / "control")
        spawned = await client.spawn(DIGEST)
        stack.settle(2)
        worker = min(stack.workers())
        spawned.channel.close()
        wait_gone(worker)
        assert await client.kill(spawned.worker_id) == 0  # how it ended is kept until asked
        client.close()

    asyncio.run(story())


@pytest.mark.parametrize(
    "question", [b"X", b"S" + b"a" * 63, b"S" + b"a" * 65, b"K", b"K" + bytes(7), b"K" + bytes(9), b"S" * 300]
)
def test_a_peer_that_does_not_speak_this_is_dropped(stack: Stack, question: bytes) -> None:
    with connect(stack) as channel:
        channel.send(question)
        assert channel.recv(64) == b""
    asyncio.run(_spawn(stack.folder))


async def _spawn(folder: Path) -> None:
    client = ZygoteClient(folder / "control")
    try:
        (await client.spawn(DIGEST)).channel.close()
    finally:
        client.close()


def test_strangers_are_refused(tmp_path: Path) -> None:
    process = start(zygote_argv(tmp_path / "control", allowed_uids=[os.getuid() + 1], without=[]), tmp_path)
    with pytest.raises(ZygoteUnavailable):
        asyncio.run(_spawn(tmp_path))
    stop(process)
    assert '"sandbox-control-refused"' in (tmp_path / "log").read_text("utf-8")


def test_a_zygote_that_is_stopped_is_late_and_ends_its_workers_when_it_goes_on(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def story() -> None:
        client = ZygoteClient(stack.folder / "control")
        spawned = await client.spawn(DIGEST)
        _stop(stack)
        monkeypatch.setattr(control, "ANSWER_S", RUNS_OUT_S)
        with at_least(RUNS_OUT_S):
            killed, late = client.kill(spawned.worker_id), client.spawn(DIGEST)
            assert await killed == NOT_YET_KNOWN
        with pytest.raises(ZygoteLate):
            await late
        stack.process.send_signal(signal.SIGCONT)
        _check_ended(spawned)
        client.close()

    asyncio.run(story())


def _stop(stack: Stack) -> None:
    stack.process.send_signal(signal.SIGSTOP)
    os.waitpid(stack.process.pid, os.WUNTRACED)  # until it stands still


def test_no_zygote_is_unavailable_at_once(tmp_path: Path) -> None:
    async def story() -> None:
        client = ZygoteClient(tmp_path / "control")
        with pytest.raises(ZygoteUnavailable) as caught:
            await client.spawn(DIGEST)
        assert not isinstance(caught.value, ZygoteLate)  # which is what waiting gives
        assert await client.kill(1) == NOBODY_KNOWS

    asyncio.run(story())


def test_sigterm_leaves_nothing(tmp_path: Path) -> None:
    process = start(zygote_argv(tmp_path / "control", allowed_uids=[os.getuid()], without=[]), tmp_path)
    stop(process)
    assert process.returncode == 0
    assert not (tmp_path / "control").exists()


def test_the_zygote_keeps_no_environment_for_workers(tmp_path: Path) -> None:
    argv = zygote_argv(tmp_path / "control", allowed_uids=[os.getuid()], without=[])
    ready, writes = os.pipe()
    environment = {"OSTIARY_READY_FD": str(writes), "PYTHONPATH": "/nonexistent", "SECRET": "x"}
    process = subprocess.Popen(argv, env=environment, pass_fds=[writes])
    os.close(writes)
    assert os.read(ready, 1) == b"R"
    os.close(ready)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.connect(str(tmp_path / "control"))
        channel.send(b"K" + struct.pack("Q", 5))
        assert channel.recv(64) == b"K" + struct.pack("i", -1)
    stop(process)
