"""The sandbox: a warm call, a new worker, the end of a runaway, threads, memory."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from credsvc.sandbox.client.control import ZygoteClient, zygote_argv
from credsvc.sandbox.client.faults import SandboxFault
from credsvc.sandbox.client.pool import LoadedModule, ModuleDigest, SandboxPool

SIGV4 = """
def sign(request, credential, clock):
    headers = fold_headers(request["headers"])
    query = sort_pairs([(uri_encode(k), uri_encode(v)) for k, v in parse_query(request["query"])])
    return {"formula": "headers", "holes": {
        "t": clock["epoch"], "method": request["method"].upper(),
        "path": uri_encode(normalize_path(request["path"]), "/"),
        "query": "&".join([k + "=" + v for k, v in query]),
        "headers": [{"name": name, "value": value} for name, value in headers],
        "payload": request["payload_sha256"],
        "region": credential["region"], "service": credential["service"]}}
"""
ARGUMENTS = {
    "request": {
        "method": "GET",
        "path": "/photos/2026/a b.jpg",
        "query": "list-type=2&prefix=a%2Fb&max-keys=100",
        "headers": {
            "Host": "s3.example",
            "X-Amz-Date": "20260102T030405Z",
            "Range": "bytes=0-9",
            "Accept": "*/*",
        },
        "payload_sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    },
    "credential": {"region": "eu-north-1", "service": "s3", "access_key_id": "AKIDEXAMPLE"},
    "clock": {"epoch": 1767323045},
}
DEADLINE_S = 0.05
WORKER_TARGET_MS, KILL_TARGET_MS, MEMORY_TARGET_MB = 10.0, 5.0, 12.0


def module(source: str) -> LoadedModule:
    """Give a source its digest."""
    return LoadedModule(digest=ModuleDigest(hashlib.sha256(source.encode()).hexdigest()), source=source)


@contextmanager
def zygote() -> Iterator[tuple[Path, int]]:
    """Run a zygote; yields its control path and pid."""
    with tempfile.TemporaryDirectory(prefix="ost") as folder:
        control = Path(folder) / "control"
        ready, writes = os.pipe()
        argv = zygote_argv(control, allowed_uids=[os.getuid()], without=[])
        process = subprocess.Popen(argv, env={"OSTIARY_READY_FD": str(writes)}, pass_fds=[writes])
        os.close(writes)
        assert os.read(ready, 1) == b"R"
        os.close(ready)
        yield control, process.pid
        process.terminate()
        process.wait()


def percentiles(times_s: list[float]) -> tuple[float, float]:
    """Return p50 and p99 in the unit of the input."""
    ordered = sorted(times_s)
    return ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]


def timed(times: int, act: Callable[[], object], pause_s: float) -> list[float]:
    """Seconds of each call, with a pause between calls."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        act()
        found.append(time.perf_counter() - begun)
        time.sleep(pause_s)
    return found


def warm(pool: SandboxPool) -> None:
    """One caller, one warm worker; then sixteen threads."""
    sigv4 = module(SIGV4)

    def one() -> object:
        return pool.run(sigv4, "sign", ARGUMENTS, 5.0)

    timed(300, one, 0)
    p50, p99 = percentiles(timed(5000, one, 0))
    print(f"warm SigV4 call, 1 caller       p50 {p50 * 1e6:7.0f} us   p99 {p99 * 1e6:7.0f} us")
    with ThreadPoolExecutor(16) as threads:
        begun = time.perf_counter()
        for done in [threads.submit(timed, 300, one, 0) for _ in range(16)]:
            done.result()
        print(f"warm SigV4 calls, 16 threads    {4800 / (time.perf_counter() - begun):7.0f} per s")


def creation(pool: SandboxPool, control: Path) -> float:
    """A worker with its module loaded, with the zygote's spare and without; returns the slower p50 in ms."""
    serial = iter(range(10**6))

    def check() -> None:
        pool.check_source(SIGV4 + f"# {next(serial)}\n")

    def bare() -> None:
        client.spawn("0" * 64, deadline=time.monotonic() + 5).channel.close()

    with_spare, p99 = percentiles(timed(100, check, 0.03))
    print(
        f"new worker, loaded and ended    p50 {with_spare * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms   "
        "(spare ready)"
    )
    without, p99 = percentiles(timed(100, check, 0))
    print(
        f"the same, back to back          p50 {without * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms   (no spare)"
    )
    client = ZygoteClient(control)
    handed, p99 = percentiles(timed(60, bare, 0.03))
    print(f"the spare handed over           p50 {handed * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms")
    client.close()
    return max(with_spare, without) * 1e3


def runaway(pool: SandboxPool) -> float:
    """From the call of a module that loops to its report; returns p50 beyond the deadline, in ms."""
    loop = module("def sign(request, credential, clock):\n    while request:\n        pass\n    return {}\n")

    def call() -> None:
        try:
            pool.run(loop, "sign", ARGUMENTS, DEADLINE_S)
        except SandboxFault:
            return
        raise AssertionError("a loop came to an end")

    p50, p99 = (1e3 * (each - DEADLINE_S) for each in percentiles(timed(40, call, 0.03)))
    print(f"runaway: deadline 50 ms and     p50 {p50:7.1f} ms   p99 {p99:7.1f} ms")
    return p50


def memory(zygote_pid: int) -> float:
    """PSS of the zygote's children; returns the largest in MB, 0 where we may not look."""
    children = Path(f"/proc/{zygote_pid}/task/{zygote_pid}/children").read_text("ascii").split()
    sizes = []
    for pid in children:
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
        except PermissionError:
            print("memory: only root may look")
            return 0.0
        sizes += [int(kilobytes) / 1024 for kilobytes in re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)]
    print(f"memory of {len(sizes)} workers (PSS)       " + " ".join(f"{size:.1f}" for size in sizes) + " MB")
    return max(sizes)


def main() -> int:
    """Print the table; 1 where a target is missed."""
    with zygote() as (control, pid):
        pool = SandboxPool(control, max_workers=4)
        warm(pool)
        made_ms = creation(pool, control)
        over_ms = runaway(pool)
        largest_mb = memory(pid)
        pool.close()
    return int(made_ms > WORKER_TARGET_MS or over_ms > KILL_TARGET_MS or largest_mb > MEMORY_TARGET_MB)


if __name__ == "__main__":
    sys.exit(main())
