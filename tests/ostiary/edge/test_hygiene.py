"""What a hardened process no longer lets others do; each case in a process of its own, for it can't be
undone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from tests.support.repository import ROOT

_SCRIPT = """
import ctypes, json, mmap, os, re, resource, sys
room = mmap.mmap(-1, 64 << 20)
room[0] = 1
if sys.argv[1] != "root":
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (65536, 65536))
    os.setgroups([]); os.setgid(12346); os.setuid(12345)
from ostiary.edge.hygiene import harden_process
report = {"shortfalls": harden_process()}
report["dumpable"] = ctypes.CDLL(None).prctl(3)  # PR_GET_DUMPABLE
status = open("/proc/self/status").read()
report["locked_kb"] = int(status.split("VmLck:")[1].split()[0])
room[1 << 20] = 1
smaps = open("/proc/self/smaps").read()
here = next(text for text in smaps.split("\\n7f") if re.search("(?m)^Size: +65536 kB", text))
report["room_kb"] = {key: int(re.search(key + r": +([0-9]+) kB", here)[1]) for key in ("Rss", "Locked")}
report["core"] = resource.getrlimit(resource.RLIMIT_CORE)
report["owner"] = os.stat("/proc/self/mem").st_uid
print(json.dumps(report))
"""


def run(who: str, tunables: str = "") -> dict[str, Any]:
    if os.geteuid() != 0:
        pytest.skip(f"needs root (this is uid {os.geteuid()})")
    done = subprocess.run(
        [sys.executable, "-c", f"import ostiary.edge.hygiene\n{_SCRIPT}", who],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "GLIBC_TUNABLES": tunables},
    )
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def test_root_locks_its_memory_and_has_no_shortfall() -> None:
    told = run("root", "glibc.malloc.perturb=165")
    # In a container without CAP_SYS_RESOURCE the limit stays, and with it this one.
    assert all("allocated later" in shortfall for shortfall in told["shortfalls"])
    assert told["dumpable"] == 0
    assert told["locked_kb"] > 1000
    assert told["core"] == [0, 0]


def test_what_is_there_is_locked_and_the_rest_when_it_comes() -> None:
    """A page was touched before and one after: neither may be swapped out, and no other was made for it."""
    told = run("root", "glibc.malloc.perturb=165")
    rss_kb, locked_kb = told["room_kb"]["Rss"], told["room_kb"]["Locked"]
    assert 0 < rss_kb < 64 << 10
    assert locked_kb == rss_kb


def test_user_under_a_limit_is_told_and_not_locked() -> None:
    """MCL_FUTURE under a limit would turn a later allocation into a MemoryError."""
    told = run("user")
    assert told["locked_kb"] == 0
    assert told["dumpable"] == 0
    assert told["owner"] == 0  # of a process that is not dumpable: others of its user can't open it
    assert ["swapped out" in s or "not overwritten" in s for s in told["shortfalls"]] == [True, True]
    assert "65536 bytes" in told["shortfalls"][0]
