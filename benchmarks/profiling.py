"""Where a role's CPU goes during a load: samples of its processes' stacks by py-spy, added up by function.

    python -m benchmarks profile signature      # the benchmark, with a profile of each load

py-spy is a program of its own (`pip install py-spy`, anywhere on PATH), not among what this project installs.
It reads the processes' memory from outside, which takes root. The rates of a profiled run are lower than they
would be.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.load import SECONDS
from benchmarks.stages import family

VARIABLE = "BENCH_PROFILE"
"""Set by `python -m benchmarks profile`."""
PY_SPY = "py-spy"
_PER_S = 200
_SHOWN = 12
_ROOT_SHARE = 0.9


@contextmanager
def profiled(title: str, roles_file: Path) -> Iterator[None]:
    """Print profiles of a service's roles after the block, where that was asked for."""
    if not os.environ.get(VARIABLE):
        yield
        return
    with tempfile.TemporaryDirectory() as folder:
        running = _start(roles_file, Path(folder))
        yield
        for name, recorders in running.items():
            for recorder, _ in recorders:
                recorder.wait()
            stacks = "".join(file.read_text() for _, file in recorders if file.exists())
            _show(f"{title}, {name}", stacks)


def _start(roles_file: Path, folder: Path) -> dict[str, list[tuple[subprocess.Popen[bytes], Path]]]:
    """A py-spy for each Python process of each role."""
    running: dict[str, list[tuple[subprocess.Popen[bytes], Path]]] = {}
    for role in json.loads(roles_file.read_text()):
        for pid in family(role["pid"]):
            file = folder / f"{pid}"
            command = [PY_SPY, "record", "--pid", str(pid), "--format", "raw", "--output", str(file)]
            command += [
                "--duration",
                str(max(1, int(SECONDS))),
                "--rate",
                str(_PER_S),
                "--function",
                "--nonblocking",
            ]
            recorder = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            running.setdefault(role["name"], []).append((recorder, file))
    return running


def _show(title: str, stacks: str) -> None:
    """Print the functions with most samples of their own, and those with most below them."""
    own: Counter[str] = Counter()
    below: Counter[str] = Counter()
    for line in stacks.splitlines():
        frames, _, number = line.rpartition(" ")
        names = frames.split(";")
        own[names[-1]] += int(number)
        for name in set(names):
            below[name] += int(number)
    total = own.total()
    if not total:
        return
    print(
        f"  profile of {title}: {total / _PER_S:.1f} s of CPU; samples in a function, and with all below it"
    )
    # What every stack begins with says nothing.
    inner = [(name, within) for name, within in below.most_common() if within / total < _ROOT_SHARE]
    for (name, samples), (above, within) in zip(own.most_common(_SHOWN), inner, strict=False):
        print(f"    {samples / total:6.1%} {_short(name):48} {within / total:6.1%} {_short(above)}")


def _short(frame: str) -> str:
    """`function (path)` in what a column has."""
    return frame.replace("site-packages/", "")[:48]


def is_missing() -> bool:
    """Whether py-spy is not there."""
    return shutil.which(PY_SPY) is None
