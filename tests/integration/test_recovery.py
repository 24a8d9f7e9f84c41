"""A key-encryption key that a reboot erased is restored from its recovery copy, and the CA starts again."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from tempfile import mkdtemp

PASSPHRASE = b"correct horse battery staple\n"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def ostiary(home: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "ostiary.cli", "--home", str(home), *arguments]
    return subprocess.run(argv, input=PASSPHRASE, capture_output=True, timeout=60, check=False)


def is_served(home: Path, *arguments: str) -> bool:
    """Serve, wait for all six roles, stop."""
    argv = [sys.executable, "-m", "ostiary.cli", "--home", str(home), "ca", "serve", *arguments]
    roles = home / "ca" / "run" / "roles.json"
    roles.unlink(missing_ok=True)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL) as process:
        assert process.stdin is not None
        process.stdin.write(PASSPHRASE)
        process.stdin.close()
        deadline_s = time.monotonic() + 60
        ready: list[str] = []
        while process.poll() is None and len(ready) < 6 and time.monotonic() < deadline_s:
            time.sleep(0.1)
            with contextlib.suppress(OSError, ValueError):
                ready = [row["name"] for row in json.loads(roles.read_text()) if row["state"] == "ready"]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        return len(ready) == 6


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
