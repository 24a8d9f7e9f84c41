"""The sandbox: a warm call and a batch, what they cost; a new worker, the end of a runaway, memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from credsvc.sandbox.client import workers
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
BATCH = 64
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


async def timed(times: int, act: Callable[[], Awaitable[object]], pause_s: float) -> list[float]:
    """Seconds of each call, with a pause between calls."""
    found = []
    for _ in range(times):
        begun = time.perf_counter()
        await act()
        found.append(time.perf_counter() - begun)
        if pause_s:
            await asyncio.sleep(pause_s)
    return found


def children(pid: int) -> list[int]:
    """Process ids of a zygote's workers."""
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text("ascii").split()]


def worker_cpu_s(zygote_pid: int) -> float:
    """CPU of all workers that are there, in seconds."""
    # proc(5), schedstat: ns on a CPU | ns waiting for one | time slices
    return (
        sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in children(zygote_pid)) / 1e9
    )


async def warm(pool: SandboxPool, zygote_pid: int) -> None:
    """One caller, one warm worker; then sixteen at once; then batches; and what a call costs."""
    sigv4 = module(SIGV4)
    batch = [ARGUMENTS] * BATCH

    def one() -> Awaitable[object]:
        return pool.run(sigv4, "sign", ARGUMENTS, 5.0)

    def many() -> Awaitable[object]:
        return pool.run_many(sigv4, "sign", batch, 5.0)

    # None retires while its time is counted.
    workers.CALLS_PER_WORKER = 10**9  # type: ignore[misc]
    await asyncio.gather(*[timed(100, one, 0) for _ in range(4)])  # all four workers
    p50, p99 = percentiles(await timed(5000, one, 0))
    print(f"warm SigV4 call, 1 caller       p50 {p50 * 1e6:7.0f} us   p99 {p99 * 1e6:7.0f} us")
    for act, size, callers in ((one, 1, 1), (one, 1, 16), (many, BATCH, 1), (many, BATCH, 16)):
        times = 9600 // (size * callers)
        calls = times * size * callers
        begun, host_s, workers_s = time.perf_counter(), time.process_time(), worker_cpu_s(zygote_pid)
        await asyncio.gather(*[timed(times, act, 0) for _ in range(callers)])
        per_s = calls / (time.perf_counter() - begun)
        host_us = (time.process_time() - host_s) / calls * 1e6
        worker_us = (worker_cpu_s(zygote_pid) - workers_s) / calls * 1e6
        what = f"in batches of {size}, {callers} at once" if size > 1 else f"{callers} at once"
        print(
            f"warm SigV4 calls {what:28} {per_s:7.0f} per s   "
            f"CPU per call: host {host_us:.0f} us, worker {worker_us:.0f} us"
        )


async def creation(pool: SandboxPool, control: Path) -> float:
    """A worker with its module loaded, with the zygote's spare and without; returns the slower p50 in ms."""
    serial = iter(range(10**6))

    def check() -> Awaitable[None]:
        return pool.check_source(SIGV4 + f"# {next(serial)}\n")

    async def bare() -> None:
        (await client.spawn("0" * 64)).channel.close()

    with_spare, p99 = percentiles(await timed(100, check, 0.03))
    print(
        f"new worker, loaded and ended    p50 {with_spare * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms   "
        "(spare ready)"
    )
    without, p99 = percentiles(await timed(100, check, 0))
    print(
        f"the same, back to back          p50 {without * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms   (no spare)"
    )
    client = ZygoteClient(control)
    handed, p99 = percentiles(await timed(60, bare, 0.03))
    print(f"the spare handed over           p50 {handed * 1e3:7.1f} ms   p99 {p99 * 1e3:7.1f} ms")
    client.close()
    return max(with_spare, without) * 1e3


async def runaway(pool: SandboxPool) -> float:
    """From the call of a module that loops to its report; returns p50 beyond the deadline, in ms."""
    loop = module("def sign(request, credential, clock):\n    while request:\n        pass\n    return {}\n")

    async def call() -> None:
        try:
            await pool.run(loop, "sign", ARGUMENTS, DEADLINE_S)
        except SandboxFault:
            return
        raise AssertionError("a loop came to an end")

    p50, p99 = (1e3 * (each - DEADLINE_S) for each in percentiles(await timed(40, call, 0.03)))
    print(f"runaway: deadline 50 ms and     p50 {p50:7.1f} ms   p99 {p99:7.1f} ms")
    return p50


def memory(zygote_pid: int) -> float:
    """PSS of the zygote's children; returns the largest in MB, 0 where we may not look."""
    sizes = []
    for pid in children(zygote_pid):
        try:
            text = Path(f"/proc/{pid}/smaps_rollup").read_text("ascii")
        except PermissionError:
            print("memory: only root may look")
            return 0.0
        sizes += [int(kilobytes) / 1024 for kilobytes in re.findall(r"^Pss:\s+(\d+)", text, re.MULTILINE)]
    print(f"memory of {len(sizes)} workers (PSS)       " + " ".join(f"{size:.1f}" for size in sizes) + " MB")
    return max(sizes)


async def measure(control: Path, zygote_pid: int) -> bool:
    """Print the table; says whether all targets are met."""
    pool = SandboxPool(control, max_workers=4)
    await warm(pool, zygote_pid)
    made_ms = await creation(pool, control)
    over_ms = await runaway(pool)
    largest_mb = memory(zygote_pid)
    await pool.close()
    return made_ms <= WORKER_TARGET_MS and over_ms <= KILL_TARGET_MS and largest_mb <= MEMORY_TARGET_MB


def main() -> int:
    """1 where a target is missed."""
    with zygote() as (control, pid):
        return int(not asyncio.run(measure(control, pid)))


if __name__ == "__main__":
    sys.exit(main())
