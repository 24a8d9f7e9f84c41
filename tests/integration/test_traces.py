"""The search for traces finds what is there. Without this test, finding nothing would prove nothing."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

from tests.support.need import require_root
from tests.support.traces import descendants, forms, in_arguments, in_files, in_memory

PROGRAM = "import sys; kept = sys.stdin.readline(); print('kept', flush=True); sys.stdin.readline()"


def test_a_secret_in_another_process_is_found_in_each_of_its_places(tmp_path: Path) -> None:
    require_root()
    marked = secrets.token_hex(24)
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "in-the-arguments"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(f"{marked}\n")
        child.stdin.flush()
        assert child.stdout.readline() == "kept\n"
        assert in_memory(child.pid, [marked.encode()])
        assert not in_memory(child.pid, [secrets.token_hex(24).encode()])
        assert in_arguments(child.pid, [b"in-the-arguments"])
        assert not in_arguments(child.pid, [marked.encode()])
        child.stdin.write("\n")


def test_a_secret_in_a_file_is_found_in_each_of_its_forms(tmp_path: Path) -> None:
    marked = secrets.token_bytes(30)
    for name, form in forms(marked).items():
        (tmp_path / name).write_bytes(b"before" + form + b"after")
    assert len(in_files(tmp_path, forms(marked).values())) == len(forms(marked))
    assert in_files(tmp_path, [secrets.token_bytes(30)]) == []


def test_descendants_are_found_over_generations() -> None:
    grandchild = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'input()'])"
    with subprocess.Popen([sys.executable, "-c", grandchild], stdin=subprocess.PIPE, text=True) as child:
        while len(descendants(child.pid)) < 2:
            pass
        assert child.pid in descendants(child.pid)
        assert child.stdin is not None
        child.stdin.close()
