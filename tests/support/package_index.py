"""A package index on loopback that has moved on: each distribution of the lock, and a newer release of it.

The wheels are made of what is installed here. Their names, versions and requirements are true; their contents
are left out, but for setuptools, which builds the checkout. So a whole set-up takes seconds and no network,
and pip would resolve as it does from the true index.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import re
import threading
import zipfile
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

_WHOLE: Final = "setuptools"
_WHEEL: Final = "Wheel-Version: 1.0\nGenerator: ostiary-tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Generator[str]:
    """The URL of the index that lies in `folder`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def locked_here(lock: str) -> dict[str, str]:
    """Name and version of each distribution that a lock names for the Python that runs this."""
    lines = re.findall(r"^([a-z0-9][^ ]*==[^\\\n]+)", lock, re.MULTILINE)
    wanted = [Requirement(line) for line in lines]
    return {
        each.name: str(each.specifier).removeprefix("==")
        for each in wanted
        if each.marker is None or each.marker.evaluate()
    }


def newer(version: str) -> str:
    """A release after that one which every range that takes that one takes, unless it is pinned exactly."""
    return ".".join(str(part) for part in (*Version(version).release, 1))


def publish(lock: str, folder: Path) -> str:
    """Put the locked and a newer release of each distribution into `folder`; the lock with those hashes."""
    for name, version in locked_here(lock).items():
        found = importlib.metadata.distribution(name)
        assert found.version == version, (
            f"{name} {found.version} is installed here, not {version}: make setup"
        )
        metadata = found.read_text("METADATA") or ""
        following = re.sub(
            r"^Version: .*$", f"Version: {newer(version)}", metadata, count=1, flags=re.MULTILINE
        )
        contents = _contents(found) if name == _WHOLE else {}
        announced = found.read_text("entry_points.txt") or ""
        hashed = write_wheel(
            folder, name, version, {"METADATA": metadata, "entry_points.txt": announced}, contents
        )
        write_wheel(folder, name, newer(version), {"METADATA": following}, {})
        lock, count = re.subn(
            rf"^({re.escape(name)}=={re.escape(version)}[ ;][^\\]*\\)\n(?:    --hash=.*\n)+",
            rf"\1\n    --hash=sha256:{hashed}\n",
            lock,
            flags=re.MULTILINE,
        )
        assert count == 1, name
    return lock


def write_wheel(
    folder: Path, name: str, version: str, metadata: dict[str, str], contents: dict[str, bytes]
) -> str:
    """Add a wheel to the index and to its project's page (PEP 503); the SHA-256 of its bytes, in hex."""
    stem = f"{canonicalize_name(name).replace('-', '_')}-{version}"
    info = f"{stem}.dist-info"
    described = {f"{info}/{path}": text.encode() for path, text in {"WHEEL": _WHEEL, **metadata}.items()}
    files = {**contents, **described}
    page = folder / "simple" / canonicalize_name(name)
    page.mkdir(parents=True, exist_ok=True)
    wheel = page / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, content in files.items():
            archive.writestr(path, content)
        archive.writestr(f"{info}/RECORD", "".join([*_record(files.items()), f"{info}/RECORD,,\n"]))
    hashed = hashlib.sha256(wheel.read_bytes()).hexdigest()
    with (page / "index.html").open("a") as index:
        index.write(f'<a href="{wheel.name}#sha256={hashed}">{wheel.name}</a><br>\n')
    return hashed


def _contents(found: importlib.metadata.Distribution) -> dict[str, bytes]:
    """The files of an installed distribution but for its metadata and what was compiled."""
    files = [each for each in found.files or () if each.suffix != ".pyc" and ".." not in each.parts]
    return {str(each): each.read_binary() for each in files if ".dist-info" not in each.parts[0]}


def _record(files: Iterable[tuple[str, bytes]]) -> Iterable[str]:
    for path, content in files:
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        yield f"{path},sha256={digest},{len(content)}\n"
