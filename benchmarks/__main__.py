"""`python -m benchmarks [NAME...]`: runs each `bench_<name>.py` in a process of its own, one after the other.

A benchmark prints its table and exits with 0, or with 1 if a number misses its target; the exit code here is
1 if any did. `python -m benchmarks profile NAME...` also prints where the roles' CPU went.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from benchmarks import profiling

HERE = Path(__file__).resolve().parent


def main(wanted: list[str]) -> int:
    """Run the named benchmarks, or all; 2 for a name that is none."""
    known = [path.stem.removeprefix("bench_") for path in sorted(HERE.glob("bench_*.py"))]
    environment = dict(os.environ)
    if wanted[:1] == ["profile"]:
        wanted = wanted[1:]
        environment[profiling.VARIABLE] = "1"
        if profiling.is_missing():
            print(f"no {profiling.PY_SPY} on PATH: `pip install py-spy`", file=sys.stderr)
            return 2
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"no benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    missed = []
    for name in wanted or known:
        print(f"== {name}", flush=True)
        command = [sys.executable, "-m", f"benchmarks.bench_{name}"]
        done = subprocess.run(command, cwd=HERE.parent, env=environment, check=False)
        missed += [name] if done.returncode != 0 else []
        print(flush=True)
    if missed:
        print(f"missed or failed: {', '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
