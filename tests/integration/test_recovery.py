"""A key-encryption key that a reboot erased is restored from its recovery copy, and the CA starts again."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from tempfile import mkdtemp

from tests.support.ports import free_port
from tests.support.waiting import PATIENCE_S, until

PASSPHRASE = b"correct horse battery staple\n"


def ostiary(home: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "ostiary.cli", "--home", str(home), *arguments]
    return subprocess.run(argv, input=PASSPHRASE, capture_output=True, timeout=PATIENCE_S, check=False)


def is_served(home: Path, *arguments: str) -> bool:
    """Serve, wait for all six roles, stop."""
    argv = [sys.executable, "-m", "ostiary.cli", "--home", str(home), "ca", "serve", *arguments]
    roles = home / "ca" / "run" / "roles.json"
    roles.unlink(missing_ok=True)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(PASSPHRASE)
        process.stdin.close()

        def are_ready() -> bool:
            with contextlib.suppress(OSError, ValueError):
                return [row["state"] for row in json.loads(roles.read_text())].count("ready") == 6
            return False

        until(lambda: process.poll() is not None or are_ready())
        is_serving = process.poll() is None
        process.send_signal(signal.SIGTERM)
        return is_serving


def test_a_lost_key_comes_back_from_its_copy() -> None:
    # Not tmp_path: roles of other users enter the home, and socket paths are short.
    folder = Path(mkdtemp(prefix="ost-"))
    folder.chmod(0o755)
    home, copy = folder / "home", folder / "kek.copy"
    listen = ("--listen", f"127.0.0.1:{free_port()}", "--status-listen", f"127.0.0.1:{free_port()}")
    made = ostiary(
        home,
        *("ca", "init", "--application", "shop.example", "--node-domain", "nodes.shop.example", *listen),
        *("--recovery", str(copy), "--recovery-passphrase", "-"),
    )
    assert made.returncode == 0, made.stderr
    (home / "ca" / "keyholder" / "kek").unlink()
    assert not is_served(home)
    assert is_served(home, "--recovery", str(copy), "--recovery-passphrase", "-")
    assert is_served(home)
    assert (home / "ca" / "keyholder" / "kek").stat().st_mode & 0o077 == 0
    shutil.rmtree(folder)
