"""Install the upcall's handler on this machine and tell it which certificate managers to ask.

    /etc/request-key.d/ostiary.conf     create user ostiary:* * /usr/libexec/ostiary/request-key %k
    /usr/libexec/ostiary/request-key    a copy of `request_key_handler.py` with a system interpreter in its first line
    /etc/ostiary/managers.d/NAME        a lasting manager: socket path, uid
    /run/ostiary-managers/NAME          a passing one (demo, test): socket path, uid, pid, that process's start time

Rules:
- One conf line and one handler serve all managers of the machine, so a test never takes a real manager's place:
  lasting ones are asked first, each answers for its own agents, a dead socket costs nothing.
- A passing install never replaces a handler that a lasting one relies on; the last to leave removes both files.
- Only root installs; everything is root's alone, for the kernel runs it as root. Files appear whole or not at all.
- Refusals say exactly what is missing. A conf file or handler that isn't ours is never touched.

The upcall runs in the initial namespaces: inside a container the files must be on the host (`selftest` tells).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyutils import keyring, request_key_handler

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERPRETERS: Final = (Path("/usr/bin/python3"), Path("/usr/local/bin/python3"))
MAX_SOCKET_PATH_BYTES: Final = 107  # sockaddr_un.sun_path without its NUL
_CONF: Final = "# Made by ostiary (keyutils.install)\ncreate user ostiary:* * {handler} %k\n"
_MARK: Final = "ask a certificate manager for an agent's key"
_CHECK: Final = "import sys, _ctypes, _json, _signal, _socket, binascii; sys.exit(sys.version_info < (3, 9) or sys.flags.isolated != 1)"


class InstallRefused(OSError):
    """Nothing was changed; `missing` lists what the operator has to provide."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__("the request-key handler can't be installed: " + "; ".join(missing))
        self.missing = missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where things lie; the default is the only place the kernel looks, others are for tests."""

    program: Path = Path("/sbin/request-key")
    conf: Path = Path("/etc/request-key.d/ostiary.conf")
    handler: Path = Path("/usr/libexec/ostiary/request-key")
    lasting: Path = Path(request_key_handler.MANAGER_DIRECTORIES[0])
    passing: Path = Path(request_key_handler.MANAGER_DIRECTORIES[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """What is there: `missing` stands in the way of an install, `absent` is what an install would bring."""

    missing: tuple[str, ...]
    absent: tuple[str, ...]
    managers: tuple[str, ...] = field(default=())

    @property
    def is_usable(self) -> bool:
        """Whether an agent's request will reach a registered manager."""
        return not self.absent and bool(self.managers)


def probe(layout: Layout = Layout()) -> Status:
    """Look at this machine, changing nothing; works for any user."""
    managers = tuple(p.name for d in (layout.lasting, layout.passing) for p in _registrations(d))
    return Status(missing=tuple(_missing(layout)), absent=tuple(_absent(layout)), managers=managers)


def install(name: str, socket_path: Path, *, uid: int, is_lasting: bool, layout: Layout = Layout()) -> Status:
    """Register the manager that user `uid` runs at `socket_path`, and put conf and handler in place if need be.

    Raises InstallRefused (nothing changed) where this machine or user lacks something; ValueError for a bad name
    or path. A passing registration ends by itself with the calling process.
    """
    registration = _registration(name, socket_path, uid, is_lasting=is_lasting)
    missing = tuple(_missing(layout))
    if missing:
        raise InstallRefused(missing)
    with _locked(layout):
        _drop_dead(layout.passing)
        for directory in (layout.handler.parent, layout.lasting.parent, layout.lasting, layout.passing):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        _put_handler(layout, is_lasting=is_lasting)
        if not layout.conf.exists():
            _write(layout.conf, _CONF.format(handler=layout.handler), 0o644)
        _write((layout.lasting if is_lasting else layout.passing) / name, registration, 0o644)
    return probe(layout)


def uninstall(name: str, *, is_lasting: bool, layout: Layout = Layout()) -> Status:
    """Take a manager's registration away, and with the last one everything else."""
    _checked_name(name)
    if os.geteuid() != 0:
        raise InstallRefused((f"needs root (this is uid {os.geteuid()})",))
    with _locked(layout):
        ((layout.lasting if is_lasting else layout.passing) / name).unlink(missing_ok=True)
        _drop_dead(layout.passing)
        if not _registrations(layout.lasting) and not _registrations(layout.passing):
            _remove_all(layout)
    return probe(layout)


def build_handler(interpreter: Path) -> str:
    """Return the handler's text with an interpreter in its first line."""
    source = Path(request_key_handler.__file__).read_text(encoding="utf-8")
    return f"#!{interpreter} -ISE\n" + source.split("\n", 1)[1]


def find_interpreter() -> Path | None:
    """Return a Python that is root's alone and has the few modules that the handler needs."""
    return next((path for path in INTERPRETERS if _is_roots_alone(path.resolve()) and _runs(path)), None)


def _runs(path: Path) -> bool:
    return subprocess.run([path, "-ISE", "-c", _CHECK], check=False, capture_output=True).returncode == 0


def _is_roots_alone(path: Path) -> bool:
    """Tell whether nobody but root can change this file, by itself or by its directories."""
    for each in (path, *path.parents):
        with contextlib.suppress(OSError):
            status = each.stat()
            if status.st_uid == 0 and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                continue
        return False
    return True


def _missing(layout: Layout) -> Iterator[str]:
    if os.geteuid() != 0:
        yield f"needs root (this is uid {os.geteuid()})"
    try:
        keyring.serial_of(keyring.SESSION_KEYRING, create=False)
    except keyring.KeyringError as exc:
        yield f"needs the kernel's key retention service ({exc.name}: not built, or withheld by a seccomp filter)"
    if not os.access(layout.program, os.X_OK):
        yield f"needs {layout.program} (Debian package keyutils)"
    if not layout.conf.parent.is_dir():
        yield f"needs {layout.conf.parent} (Debian package keyutils)"
    if find_interpreter() is None:
        yield f"needs a system Python >= 3.9 with ctypes, root's alone, at {' or '.join(map(str, INTERPRETERS))}"


def _absent(layout: Layout) -> Iterator[str]:
    if not layout.conf.exists():
        yield f"{layout.conf} is not there"
    elif f" {layout.handler} %k" not in layout.conf.read_text(encoding="utf-8"):
        yield f"{layout.conf} does not run {layout.handler}"
    wire = _wire_version(layout.handler)
    if wire is None:
        yield f"{layout.handler} is not there"
    elif wire != request_key_handler.WIRE_VERSION:
        yield f"{layout.handler} speaks version {wire}, this release {request_key_handler.WIRE_VERSION}"


def _wire_version(handler: Path) -> int | None:
    try:
        found = re.search(r"^WIRE_VERSION = (\d+)", handler.read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(found[1]) if found else 0


def _put_handler(layout: Layout, *, is_lasting: bool) -> None:
    interpreter = find_interpreter()
    if interpreter is None:
        raise AssertionError("checked before")
    text = build_handler(interpreter)
    present = layout.handler.read_text(encoding="utf-8") if layout.handler.exists() else None
    if present is not None and _MARK not in present:
        raise InstallRefused((f"{layout.handler} is not ours; move it away",))
    if present is None or (present != text and (is_lasting or not _registrations(layout.lasting))):
        _write(layout.handler, text, 0o755)


def _remove_all(layout: Layout) -> None:
    for path, mark in ((layout.conf, "Made by ostiary"), (layout.handler, _MARK)):
        if path.exists() and mark in path.read_text(encoding="utf-8"):
            path.unlink()
    for directory in (layout.passing, layout.lasting, layout.lasting.parent, layout.handler.parent):
        with contextlib.suppress(OSError):  # not empty: somebody else's
            directory.rmdir()


def _registration(name: str, socket_path: Path, uid: int, *, is_lasting: bool) -> str:
    _checked_name(name)
    text = str(socket_path)
    if not socket_path.is_absolute() or "\n" in text or len(os.fsencode(text)) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"socket path {text!r} is not absolute or longer than {MAX_SOCKET_PATH_BYTES} bytes")
    owner = "" if is_lasting else f"{os.getpid()}\n{_start_time(os.getpid())}\n"
    return f"{text}\n{uid}\n{owner}"


def _checked_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValueError(f"manager name {name!r} is not 1-64 of a-z, 0-9, '-' and '_'")


def _registrations(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return []


def _drop_dead(directory: Path) -> None:
    """Take away what killed demos and tests left: the process that registered is gone."""
    for path in _registrations(directory):
        lines = path.read_text(encoding="utf-8").split("\n")
        if len(lines) < 4 or not lines[2].isdigit() or _start_time(int(lines[2])) != lines[3]:
            path.unlink(missing_ok=True)


def _start_time(pid: int) -> str | None:
    """Return a process's start time in clock ticks, which tells it from a later one of the same number."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    return None


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """Hold the machine's only lock on these files: the directory that request-key itself reads."""
    descriptor = os.open(layout.conf.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _write(path: Path, text: str, mode: int) -> None:
    descriptor, temporary = tempfile.mkstemp(prefix=".ostiary-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
