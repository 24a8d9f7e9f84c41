"""The ledger's numbers: proofs in a tree of 10^6 entries, full verification, appending, canonical entries;
and `audit verify` of a store.

Run as `python -m benchmarks.bench_ledger [SIZE]`; `figures` is for the table of all benchmarks. One process,
one thread, everything in memory; but `audit verify` is the command itself, on a store (SQLite, in a temporary
directory) that an admin process reads. A figure that misses its target is printed with `!`.
"""

from __future__ import annotations

import contextlib
import io
import json
import random
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from benchmarks.ledger_store import fill, served
from ostiary.cli.root import run
from ostiary.ledger.canonical import canonical
from ostiary.ledger.checkpoint import Checkpoint, KeyType, open_note, sign, verifier_key
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.proof import (
    build_consistency_proof,
    build_inclusion_proof,
    check_consistency,
    check_inclusion,
    read_frontier,
)
from ostiary.ledger.right_edge import RightEdge
from ostiary.ledger.tree import leaf_hash, leaf_hashes
from ostiary.ledger.verify import Since, verify_log

ORIGIN = "bench.example/ca"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One measured number; `at_most` and `at_least` are its target, None if it has none."""

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_missed(self) -> bool:
        """Whether the number is worse than what is asked."""
        too_much = self.at_most is not None and self.value > self.at_most
        return too_much or (self.at_least is not None and self.value < self.at_least)


def entry(number: int) -> bytes:
    """Return an entry of the size and shape of an issuance."""
    return canonical(
        {
            "act": f"{number:064x}",
            "at_ms": 1_790_000_000_000 + number,
            "kind": "issue",
            "lineage": f"{number:032x}",
            "node": f"n{number % 1000:03}.cluster.shop.example",
            "serial_number": f"{number:040x}",
            "subsystem": "component-harness",
            "verdict": "authorized",
        }
    )


def figures(size: int = 1_000_000) -> list[Figure]:
    """Measure everything; takes about fifteen seconds for 10^6 entries."""
    started = perf_counter()
    entries = [entry(number) for number in range(size)]
    made_s = perf_counter() - started
    log, appended_s = _append(entries)
    return [
        Figure(name="canonical entry", value=size / made_s, unit="/s"),
        Figure(name="append in batches of 64, tiles written", value=size / appended_s, unit="entries/s"),
        *_proofs(log),
        *_verification(log),
        *_start(log),
        *_checkpoints(log),
        *audit_figures(size),
    ]


def _append(entries: list[bytes]) -> tuple[MemoryLog, float]:
    log = MemoryLog()
    started = perf_counter()
    for start in range(0, len(entries), 64):
        log.append(entries[start : start + 64])
    return log, perf_counter() - started


def _proofs(log: MemoryLog) -> list[Figure]:
    rng = random.Random(9162)
    places = [0, log.size - 1, *(rng.randrange(log.size) for _ in range(500))]
    root = log.frontier.root()
    building, checking = [], []
    for index in places:
        started = perf_counter()
        path = build_inclusion_proof(log, index=index, size=log.size)
        built = perf_counter()
        check_inclusion(leaf=leaf_hash(log.entries[index]), index=index, size=log.size, path=path, root=root)
        building.append(built - started)
        checking.append(perf_counter() - built)
    consistency = [_consistency_s(log, rng.randrange(1, log.size), root) for _ in range(300)]
    return [
        *_quantiles("inclusion proof, build", building, at_most_ms=2),
        *_quantiles("inclusion proof, check", checking, at_most_ms=2),
        *_quantiles("consistency proof, build and check", consistency, at_most_ms=2),
    ]


def _consistency_s(log: MemoryLog, old_size: int, root: bytes) -> float:
    old_root = read_frontier(log, old_size).root()
    started = perf_counter()
    path = build_consistency_proof(log, old_size=old_size, new_size=log.size)
    check_consistency(old_size=old_size, old_root=old_root, new_size=log.size, new_root=root, path=path)
    return perf_counter() - started


def _verification(log: MemoryLog) -> list[Figure]:
    checkpoint = Checkpoint.of(ORIGIN, log.frontier)
    half = Checkpoint.of(ORIGIN, read_frontier(log, log.size // 2))
    since = Since.read(half, log)
    rest = log.entries[half.size :]
    alone_s = _seconds(lambda: verify_log(log.entries, checkpoint, since=None, hashes=None, waypoints=[]))
    with_tiles_s = _seconds(lambda: verify_log(log.entries, checkpoint, since=None, hashes=log, waypoints=[]))
    since_s = _seconds(lambda: verify_log(rest, checkpoint, since=since, hashes=None, waypoints=[]))
    return [
        Figure(name="full verification", value=log.size / alone_s, unit="entries/s", at_least=50_000),
        Figure(
            name="full verification, with tiles",
            value=log.size / with_tiles_s,
            unit="entries/s",
            at_least=50_000,
        ),
        Figure(name="verification since half", value=len(rest) / since_s, unit="entries/s", at_least=50_000),
    ]


def _start(log: MemoryLog) -> list[Figure]:
    one = leaf_hashes([b"one"])
    edge = RightEdge.read(log, log.size)
    read_s = min(_seconds(lambda: RightEdge.read(log, log.size)) for _ in range(20))
    append_s = min(_seconds(lambda: edge.append(one)) for _ in range(200))
    return [
        Figure(name="start: right edge read back", value=read_s * 1e3, unit="ms"),
        Figure(name="append of one leaf", value=append_s * 1e6, unit="us"),
    ]


def _checkpoints(log: MemoryLog) -> list[Figure]:
    secret = Ed25519PrivateKey.from_private_bytes(bytes(32))
    keys = [verifier_key(ORIGIN, secret, KeyType.LOG)]
    checkpoint = Checkpoint.of(ORIGIN, log.frontier)
    note = sign(checkpoint, ORIGIN, secret)
    signing_s = min(
        _seconds(lambda: sign(Checkpoint.of(ORIGIN, log.frontier), ORIGIN, secret)) for _ in range(200)
    )
    opening_s = min(_seconds(lambda: open_note(note, keys)) for _ in range(200))
    return [
        Figure(name="checkpoint, root and signature", value=signing_s * 1e6, unit="us"),
        Figure(name="checkpoint, open", value=opening_s * 1e6, unit="us"),
    ]


def audit_figures(size: int) -> list[Figure]:
    """Measure `ostiary audit verify` on a store of `size` entries."""
    with tempfile.TemporaryDirectory() as directory:
        home = Path(directory) / "ca"
        home.mkdir()
        filled_s = _seconds(lambda: fill(home, size))
        with served(home):
            verified_s = min(_seconds(lambda: _verify(home.parent, size)) for _ in range(3))
    return [
        Figure(name="store: append in turns of 5,000", value=size / filled_s, unit="entries/s"),
        Figure(name="store: audit verify", value=size / verified_s, unit="entries/s", at_least=200_000),
    ]


def _verify(home: Path, size: int) -> None:
    written = io.StringIO()
    with contextlib.redirect_stdout(written):
        code = run(["--json", "--home", str(home), "audit", "verify"])
    if code or json.loads(written.getvalue())["entries"] != size:
        raise RuntimeError(f"not verified: {written.getvalue()}")


def _seconds(work: Callable[[], object]) -> float:
    started = perf_counter()
    work()
    return perf_counter() - started


def _quantiles(name: str, seconds: list[float], *, at_most_ms: float) -> list[Figure]:
    p99 = statistics.quantiles(seconds, n=100)[98]
    return [
        Figure(name=f"{name}, p50", value=statistics.median(seconds) * 1e3, unit="ms", at_most=at_most_ms),
        Figure(name=f"{name}, p99", value=p99 * 1e3, unit="ms", at_most=at_most_ms),
    ]


def main() -> int:
    """Print the table; exit 1 where a target is missed."""
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    print(f"ledger of {size:,} entries")
    measured = figures(size)
    for figure in measured:
        mark = "!" if figure.is_missed else " "
        print(f"{mark} {figure.name:45} {figure.value:14,.3f} {figure.unit}")
    return int(any(figure.is_missed for figure in measured))


if __name__ == "__main__":
    sys.exit(main())
