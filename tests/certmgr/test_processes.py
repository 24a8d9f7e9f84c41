"""The running kernel as `certmgr.processes` reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from certmgr.processes import LinuxProcesses, has_ended, leader_of_thread, open_process, pinned
from certmgr.scopes import ProcessKey, ProcessView, lineage
from ostiary.errors import Forbidden

VIEW = LinuxProcesses()


def test_it_fits_the_port() -> None:
    view: ProcessView = VIEW
    assert view.process(os.getpid()) is not None


def test_this_process_is_its_parents_child() -> None:
    own = VIEW.process(os.getpid())
    assert own is not None
    assert (own.parent, own.session) == (os.getppid(), os.getsid(0))
    line = [each.key.pid for each in lineage(VIEW, own)]
    assert line[:2] == [os.getpid(), os.getppid()]


def test_a_command_name_with_brackets_is_parsed() -> None:
    # prctl(PR_SET_NAME) sets comm, which /proc/PID/stat shows between brackets.
    script = "import ctypes, time; ctypes.CDLL(None).prctl(15, b') 9 (x) R 1', 0, 0, 0); "
    script += "print(flush=True); time.sleep(999)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = VIEW.process(child.pid)
        assert found is not None
        assert found.parent == os.getpid()
        child.kill()


def test_a_zombie_counts_as_ended() -> None:
    child = subprocess.Popen(["true"])
    pidfd = os.pidfd_open(child.pid)
    before = VIEW.process(child.pid)
    while not has_ended(pidfd):
        time.sleep(0.01)
    assert VIEW.process(child.pid) is None
    with pytest.raises(Forbidden):
        pinned(VIEW, child.pid, pidfd)
    child.wait()
    with pytest.raises(Forbidden):
        pinned(VIEW, child.pid, None)
    if before is not None:
        assert open_process(before.key, VIEW) is None


def test_a_process_is_pinned_by_number_and_start() -> None:
    own = pinned(VIEW, os.getpid(), None)
    assert open_process(ProcessKey(own.key.pid, own.key.start_time + 1), VIEW) is None
    descriptor = open_process(own.key, VIEW)
    assert descriptor is not None
    assert not has_ended(descriptor)
    os.close(descriptor)


def test_descendants_are_found_through_threads_and_not_through_foreign_ones() -> None:
    script = "import subprocess, time; subprocess.Popen(['sleep', '999']); print(flush=True); time.sleep(999)"
    child = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    own = pinned(VIEW, os.getpid(), None).key
    found = VIEW.children(frozenset({own}), is_foreign=lambda _process: False)
    key = pinned(VIEW, child.pid, None).key
    below = VIEW.children(frozenset({key}), is_foreign=lambda _process: False)
    assert key in found
    assert len(below) == 1
    assert below <= found
    others = VIEW.children(frozenset({own}), is_foreign=lambda process: process.key == key)
    assert not others & (below | {key})
    for each in below:
        os.kill(each.pid, 9)
    child.kill()
    child.wait()
    child.stdout.close()


def test_a_thread_is_resolved_to_its_process() -> None:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(leader_of_thread(threading.get_native_id())))
    thread.start()
    thread.join()
    assert found == [os.getpid()]
    with pytest.raises(Forbidden):
        leader_of_thread(2**22 - 1)


@pytest.mark.parametrize("path", ["relative", "/../etc", "/no-such-group"])
def test_a_path_outside_the_cgroup_file_system_is_none(path: str) -> None:
    assert VIEW.cgroup(path) is None
