"""A PostgreSQL server of a test's own: a new cluster in a directory, reached through a UNIX socket only.

It runs as another user where the test is root, because PostgreSQL refuses root. fsync is off: the cluster
lives as long as one test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.need import NEEDS

_UNPRIVILEGED = "nobody"
_START_S = 60


def _programs() -> Path:
    """The directory of initdb and pg_ctl; Debian has a directory for each major version, outside PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    if path is None:
        pytest.skip(f"{NEEDS}the command 'initdb' (scripts/system-packages.txt)")
    return Path(path).resolve().parent


@contextmanager
def postgresql() -> Iterator[str]:
    """Yield the URL of an empty database, for `ostiary.store.database`."""
    programs = _programs()
    # Not pytest's tmp_path: another user must get in, and a socket's path has at most 107 bytes (unix(7)).
    with tempfile.TemporaryDirectory(prefix="pg", dir="/tmp") as name:
        cluster = Path(name) / "cluster"
        as_user = ["runuser", "-u", _UNPRIVILEGED, "--"] if os.geteuid() == 0 else []
        if as_user:
            shutil.chown(name, _UNPRIVILEGED)

        def run(program: str, *arguments: str) -> None:
            argv = [*as_user, str(programs / program), "-D", str(cluster), *arguments]
            subprocess.run(argv, check=True, cwd=name, stdout=subprocess.DEVNULL, timeout=_START_S)

        run("initdb", "--auth=trust", "--username=test", "--encoding=UTF8", "--locale=C", "--no-sync")
        options = f"-k {name} -c listen_addresses= -c fsync=off"
        run("pg_ctl", "start", "--wait", "--silent", f"--log={name}/log", f"--options={options}")
        try:
            yield f"postgresql+psycopg://test@/postgres?host={name}"
        finally:
            run("pg_ctl", "stop", "--wait", "--silent", "--mode=immediate")
