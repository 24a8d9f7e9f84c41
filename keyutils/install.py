"""Install the upcall's handler on this machine and tell it which certificate managers to ask.

    /etc/request-key.d/ostiary.conf     create user ostiary:* * /usr/libexec/ostiary/request-key %k
    /usr/libexec/ostiary/request-key    three lines for a system interpreter, which import
    .../request_key_handler.py          a copy of that module, and its compiled form
    /etc/ostiary/managers.d/NAME        a lasting manager: socket path, uid
    /run/ostiary-managers/NAME          a passing one (demo, test): socket path, uid, pid, that process's start time

Rules:
- One conf line and one handler serve all managers of the machine, so a demo never takes a real manager's
  place: lasting ones are asked first, each answers for its own agents, a dead socket costs nothing.
- A handler that nobody relies on (what a killed run left) is replaced, whatever its release. One that another
  live manager relies on stays: a passing install of the same wire version works with it, one of another is
  refused; a lasting install, an operator's act, replaces it. The last to leave removes everything.
- Tests have a layout of their own (`keyutils.layout`); what dead owners of such layouts left goes with the
  next install.
- Only root installs; everything is root's alone, for the kernel runs it as root. Files appear whole or not at
  all.
- Refusals say exactly what is missing. A conf file or handler that isn't ours is never touched.

The upcall runs in the initial namespaces: inside a container the files must be on the host
(`keyutils.selftest` tells).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import stat
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from keyutils import keyring, request_key_handler
from keyutils.layout import MACHINE, Layout, start_time, waste

if TYPE_CHECKING:
    from collections.abc import Iterator

INTERPRETERS: Final = (Path("/usr/bin/python3"), Path("/usr/local/bin/python3"))
MAX_SOCKET_PATH_BYTES: Final = 107  # sockaddr_un.sun_path without its NUL
_CONF: Final = "# Made by ostiary (keyutils.install)\ncreate user {prefix}* * {handler} %k\n"
_PROGRAM: Final = """\
#!{interpreter} -ISE
# Made by ostiary (keyutils.install)
import sys
sys.path.insert(0, {directory!r})
import request_key_handler
request_key_handler.main(sys.argv, {prefix!r}, {managers!r})
"""
_MARK: Final = "Made by ostiary"
_TEMPORARY: Final = ".ostiary-"
_COMPILE: Final = (
    "import py_compile, sys; py_compile.compile(sys.argv[1], doraise=True, "
    "invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)"
)
_CHECK: Final = "import sys, _ctypes, _json, _signal, _socket, binascii; sys.exit(sys.version_info < (3, 9) or sys.flags.isolated != 1)"


class InstallRefused(OSError):
    """Nothing was changed; `missing` lists what the operator has to provide."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__("the request-key handler can't be installed: " + "; ".join(missing))
        self.missing = missing


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


def probe(layout: Layout = MACHINE) -> Status:
    """Look at this machine, changing nothing; works for any user."""
    managers = tuple(p.name for d in (layout.lasting, layout.passing) for p in _registrations(d))
    return Status(missing=tuple(_missing(layout)), absent=tuple(_absent(layout)), managers=managers)


def install(name: str, socket_path: Path, *, uid: int, is_lasting: bool, layout: Layout = MACHINE) -> Status:
    """Register the manager that user `uid` runs at `socket_path`, and put conf and handler in place if need
    be.

    Raises InstallRefused (nothing changed) where this machine or user lacks something; ValueError for a bad
    name or path. A passing registration ends by itself with the calling process.
    """
    registration = _registration(name, socket_path, uid, is_lasting=is_lasting)
    missing = tuple(_missing(layout))
    if missing:
        raise InstallRefused(missing)
    with _locked(layout):
        _sweep(layout)
        for directory in (layout.handler.parent, layout.lasting.parent, layout.lasting, layout.passing):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        is_relied_on = bool(_others(layout, name, is_lasting=is_lasting)) and not is_lasting
        _put_handler(layout, is_relied_on=is_relied_on)
        _put_conf(layout)
        _write((layout.lasting if is_lasting else layout.passing) / name, registration, 0o644)
    return probe(layout)


def uninstall(name: str, *, is_lasting: bool, layout: Layout = MACHINE) -> Status:
    """Take a manager's registration away, and with the last one everything else."""
    _checked_name(name)
    if os.geteuid() != 0:
        raise InstallRefused((f"needs root (this is uid {os.geteuid()})",))
    with _locked(layout):
        ((layout.lasting if is_lasting else layout.passing) / name).unlink(missing_ok=True)
        _sweep(layout)
        if not _registrations(layout.lasting) and not _registrations(layout.passing):
            _remove_all(layout)
    return probe(layout)


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
    if not os.access(layout.request_key, os.X_OK):
        yield f"needs {layout.request_key} (Debian package keyutils)"
    if not layout.conf.parent.is_dir():
        yield f"needs {layout.conf.parent} (Debian package keyutils)"
    if find_interpreter() is None:
        yield f"needs a system Python >= 3.9 with ctypes, root's alone, at {' or '.join(map(str, INTERPRETERS))}"


def _absent(layout: Layout) -> Iterator[str]:
    if not layout.conf.exists():
        yield f"{layout.conf} is not there"
    elif f" {layout.prefix}* * {layout.handler} %k" not in layout.conf.read_text(encoding="utf-8"):
        yield f"{layout.conf} does not run {layout.handler}"
    if not os.access(layout.handler, os.X_OK):
        yield f"{layout.handler} is not there"
    wire = _wire_version(layout.module)
    if wire is None:
        yield f"{layout.module} is not there"
    elif wire != request_key_handler.WIRE_VERSION:
        yield f"{layout.module} speaks version {wire}, this release {request_key_handler.WIRE_VERSION}"


def _wire_version(module: Path) -> int | None:
    try:
        found = re.search(r"^WIRE_VERSION = (\d+)", module.read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(found[1]) if found else 0


def _put_handler(layout: Layout, *, is_relied_on: bool) -> None:
    interpreter = find_interpreter()
    if interpreter is None:
        raise AssertionError("checked before")
    program = _PROGRAM.format(
        interpreter=interpreter,
        directory=str(layout.handler.parent),
        prefix=layout.prefix.encode(),
        managers=(str(layout.lasting), str(layout.passing)),
    )
    present = layout.handler.read_text(encoding="utf-8") if layout.handler.exists() else None
    if present is not None and _MARK not in present:
        raise InstallRefused((f"{layout.handler} is not ours; move it away",))
    wire = _wire_version(layout.module)
    if is_relied_on and present is not None and wire is not None:
        if wire == request_key_handler.WIRE_VERSION:
            return
        raise InstallRefused((f"a live manager's handler speaks version {wire}; stop that manager first",))
    source = Path(request_key_handler.__file__).read_text(encoding="utf-8")
    if present == program and wire is not None and layout.module.read_text(encoding="utf-8") == source:
        return
    _write(layout.module, source, 0o644)
    subprocess.run([interpreter, "-ISE", "-c", _COMPILE, layout.module], check=True, capture_output=True)
    _write(layout.handler, program, 0o755)


def _put_conf(layout: Layout) -> None:
    wanted = _CONF.format(prefix=layout.prefix, handler=layout.handler)
    present = layout.conf.read_text(encoding="utf-8") if layout.conf.exists() else _MARK
    if _MARK in present and present != wanted:
        _write(layout.conf, wanted, 0o644)


def _remove_all(layout: Layout) -> None:
    for path in (layout.conf, layout.handler):
        if path.exists() and _MARK in path.read_text(encoding="utf-8"):
            path.unlink()
    if not layout.handler.exists():
        layout.module.unlink(missing_ok=True)
        compiled = layout.module.parent / "__pycache__"
        for path in compiled.glob(f"{layout.module.stem}.*.pyc"):
            path.unlink()
        _remove_if_empty(compiled)
    for directory in (layout.passing, layout.lasting, layout.lasting.parent, layout.handler.parent):
        _remove_if_empty(directory)


def _remove_if_empty(directory: Path) -> None:
    with contextlib.suppress(OSError):  # not empty: somebody else's
        directory.rmdir()


def _registration(name: str, socket_path: Path, uid: int, *, is_lasting: bool) -> str:
    _checked_name(name)
    text = str(socket_path)
    if not socket_path.is_absolute() or "\n" in text or len(os.fsencode(text)) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"socket path {text!r} is not absolute or longer than {MAX_SOCKET_PATH_BYTES} bytes")
    owner = "" if is_lasting else f"{os.getpid()}\n{start_time(os.getpid())}\n"
    return f"{text}\n{uid}\n{owner}"


def _checked_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValueError(f"manager name {name!r} is not 1-64 of a-z, 0-9, '-' and '_'")


def _registrations(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return []


def _others(layout: Layout, name: str, *, is_lasting: bool) -> list[Path]:
    """The registrations beside the one that is being made, whose own earlier life doesn't count."""
    own = (layout.lasting if is_lasting else layout.passing) / name
    return [p for d in (layout.lasting, layout.passing) for p in _registrations(d) if p != own]


def _sweep(layout: Layout) -> None:
    """Take away what killed demos and tests left: the process that wrote or registered it, or whose layout it
    was, is gone.
    """
    for directory in (layout.conf.parent, layout.handler.parent, layout.lasting, layout.passing):
        for path in directory.glob(f"{_TEMPORARY}*"):  # files are written under the lock, which we have
            path.unlink()
    for path in _registrations(layout.passing):
        lines = path.read_text(encoding="utf-8").split("\n")
        if len(lines) < 4 or not lines[2].isdigit() or start_time(int(lines[2])) != lines[3]:
            path.unlink(missing_ok=True)
    for dead in waste(layout):
        dead.conf.unlink(missing_ok=True)
        for directory in (dead.handler.parent, dead.lasting, dead.passing):
            shutil.rmtree(directory, ignore_errors=True)


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
    descriptor, temporary = tempfile.mkstemp(prefix=_TEMPORARY, dir=path.parent)
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
