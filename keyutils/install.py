"""Install the upcall's handler on this machine, and register the certificate managers that it asks.

    /etc/request-key.d/ostiary.conf     create user ostiary:* * /usr/libexec/ostiary/request-key %k
    /usr/libexec/ostiary/request-key    a few lines for a system interpreter, which import
    .../request_key_handler.py          a copy of that module, and its compiled form
    /etc/ostiary/managers.d/NAME        a lasting manager: socket path, uid
    /run/ostiary-managers/NAME          a passing one (demo, test): socket path, uid, pid, start time

Rules:
- One conf line and one handler serve all managers of the machine, so a demo never replaces a real manager:
  lasting ones are asked first, each answers for its own agents, and a dead socket costs nothing.
- A handler that no live manager relies on (a killed run's) is replaced, whatever its release. One that
  another live manager relies on stays: a passing install of the same wire version uses it, one of another
  version is refused; a lasting install, an operator's act, replaces it. The last uninstall removes all.
- Tests use a layout of their own (`keyutils.layout`); the next install removes what its dead owners left.
- Only root installs, and only root may write the files, because the kernel runs them as root. Each file
  appears whole or not at all.
- A refusal names exactly what is missing. A conf file or handler of other origin is never touched.

The upcall runs in the initial namespaces: for a container, the files must be on the host
(`keyutils.selftest` finds out).
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

# The system's own interpreters, at fixed paths: PATH is the caller's, and a virtual environment may be
# anybody's to write.
INTERPRETERS: Final = (Path("/usr/bin/python3"), Path("/usr/local/bin/python3"))
MAX_SOCKET_PATH_BYTES: Final = 107  # sockaddr_un.sun_path without its NUL
# %k is the key's serial. Not %d or %c: description and callout would show in /proc/PID/cmdline.
_CONF: Final = "# Made by ostiary (keyutils.install)\ncreate user {prefix}* * {handler} %k\n"
# -I: neither environment nor the user's site-packages; -S: no site module; -E is part of -I.
_PROGRAM: Final = """\
#!{interpreter} -ISE
# Made by ostiary (keyutils.install)
import sys
sys.path.insert(0, {directory!r})
import request_key_handler
request_key_handler.main(sys.argv, {prefix!r}, {managers!r})
"""
_MARK: Final = "Made by ostiary"  # in every file that an uninstall may remove
_TEMPORARY: Final = ".ostiary-"
# CHECKED_HASH: the compiled form counts by the source's hash. By modification time (the default) a replaced
# source of the same second and size would run the old code.
_COMPILE: Final = (
    "import py_compile, sys; py_compile.compile(sys.argv[1], doraise=True, "
    "invalidation_mode=py_compile.PycInvalidationMode.CHECKED_HASH)"
)
_CHECK: Final = (
    "import sys, _ctypes, _json, _signal, _socket, binascii; "
    "sys.exit(sys.version_info < (3, 9) or sys.flags.isolated != 1)"
)


class InstallRefused(OSError):
    """The install changed nothing; `missing` lists what the operator has to provide."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        super().__init__("the request-key handler can't be installed: " + "; ".join(missing))
        self.missing = missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The state of this machine: `missing` prevents an install, `absent` is what an install would add."""

    missing: tuple[str, ...]
    absent: tuple[str, ...]
    managers: tuple[str, ...] = field(default=())

    @property
    def is_usable(self) -> bool:
        """Whether an agent's request will reach a registered manager."""
        return not self.absent and bool(self.managers)


def probe(layout: Layout = MACHINE) -> Status:
    """Examine this machine without changing it; works for any user."""
    managers = tuple(p.name for d in (layout.lasting, layout.passing) for p in _registrations(d))
    return Status(missing=tuple(_missing(layout)), absent=tuple(_absent(layout)), managers=managers)


def install(name: str, socket_path: Path, *, uid: int, is_lasting: bool, layout: Layout = MACHINE) -> Status:
    """Register the manager that user `uid` runs at `socket_path`; put conf and handler in place if necessary.

    Raises InstallRefused (nothing changed) if this machine or user lacks something, ValueError for a bad name
    or path. A passing registration is void once the calling process has ended.

    1. Check name, path and machine. 2. Take the lock and remove what dead processes left. 3. Make the
    directories. 4. Put the handler, unless another manager relies on it. 5. Put the conf line. 6. Register.
    """
    # 1. before anything is changed
    registration = _registration(name, socket_path, uid, is_lasting=is_lasting)
    missing = tuple(_missing(layout))
    if missing:
        raise InstallRefused(missing)
    # 2. and 3.
    with _locked(layout):
        _sweep(layout)
        for directory in (layout.handler.parent, layout.lasting.parent, layout.lasting, layout.passing):
            directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        # 4. to 6. in this order: an upcall that comes in between finds a whole handler without this manager
        is_relied_on = bool(_others(layout, name, is_lasting=is_lasting)) and not is_lasting
        _put_handler(layout, is_relied_on=is_relied_on)
        _put_conf(layout)
        _write((layout.lasting if is_lasting else layout.passing) / name, registration, 0o644)
    return probe(layout)


def uninstall(name: str, *, is_lasting: bool, layout: Layout = MACHINE) -> Status:
    """Remove a manager's registration, and with the last one everything else."""
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
    """Return a Python that only root can change and that has the few modules which the handler needs."""
    return next((path for path in INTERPRETERS if _is_roots_alone(path.resolve()) and _runs(path)), None)


def _runs(path: Path) -> bool:
    return subprocess.run([path, "-ISE", "-c", _CHECK], check=False, capture_output=True).returncode == 0


def _is_roots_alone(path: Path) -> bool:
    """Whether only root can change this file, directly or through its directories."""
    # The kernel runs it as root with all capabilities: who can write here is root.
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
        yield f"needs the kernel's key retention service ({exc.name}: not built in, or blocked by seccomp)"
    if not os.access(layout.request_key, os.X_OK):
        yield f"needs {layout.request_key} (Debian package keyutils)"
    if not layout.conf.parent.is_dir():
        yield f"needs {layout.conf.parent} (Debian package keyutils)"
    if find_interpreter() is None:
        places = " or ".join(map(str, INTERPRETERS))
        yield f"needs a system Python >= 3.9 with ctypes that only root can change, at {places}"


def _absent(layout: Layout) -> Iterator[str]:
    if not layout.conf.exists():
        yield f"{layout.conf} does not exist"
    elif f" {layout.prefix}* * {layout.handler} %k" not in layout.conf.read_text(encoding="utf-8"):
        yield f"{layout.conf} does not run {layout.handler}"
    if not os.access(layout.handler, os.X_OK):
        yield f"{layout.handler} does not exist"
    wire = _wire_version(layout.module)
    if wire is None:
        yield f"{layout.module} does not exist"
    elif wire != request_key_handler.WIRE_VERSION:
        yield f"{layout.module} has wire version {wire}, this release {request_key_handler.WIRE_VERSION}"


def _wire_version(module: Path) -> int | None:
    try:
        found = re.search(r"^WIRE_VERSION = (\d+)", module.read_text(encoding="utf-8"), re.MULTILINE)
    except FileNotFoundError:
        return None
    return int(found[1]) if found else 0  # a file without a version is of no release, but it is there


def _put_handler(layout: Layout, *, is_relied_on: bool) -> None:
    interpreter = find_interpreter()
    if interpreter is None:
        raise AssertionError("install has checked that there is an interpreter")
    program = _PROGRAM.format(
        interpreter=interpreter,
        directory=str(layout.handler.parent),
        prefix=layout.prefix.encode(),
        managers=(str(layout.lasting), str(layout.passing)),
    )
    present = layout.handler.read_text(encoding="utf-8") if layout.handler.exists() else None
    if present is not None and _MARK not in present:
        raise InstallRefused((f"{layout.handler} was not made by Ostiary; move it away",))
    wire = _wire_version(layout.module)
    if is_relied_on and present is not None and wire is not None:
        if wire == request_key_handler.WIRE_VERSION:
            return
        raise InstallRefused((f"a live manager's handler has wire version {wire}; stop that manager first",))
    source = Path(request_key_handler.__file__).read_text(encoding="utf-8")
    if present == program and wire is not None and layout.module.read_text(encoding="utf-8") == source:
        return
    # The program comes last: until then an upcall runs the old one, which imports whichever module is there.
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
    with contextlib.suppress(OSError):  # ENOTEMPTY: it holds files of other origin
        directory.rmdir()


def _registration(name: str, socket_path: Path, uid: int, *, is_lasting: bool) -> str:
    _checked_name(name)
    text = str(socket_path)
    if not socket_path.is_absolute() or "\n" in text or len(os.fsencode(text)) > MAX_SOCKET_PATH_BYTES:
        raise ValueError(f"socket path {text!r} is not an absolute path of <= {MAX_SOCKET_PATH_BYTES} bytes")
    owner = "" if is_lasting else f"{os.getpid()}\n{start_time(os.getpid())}\n"
    return f"{text}\n{uid}\n{owner}"


def _checked_name(name: str) -> None:
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,63}", name):
        raise ValueError(f"manager name {name!r} is not 1 to 64 of a-z, 0-9, '-' and '_'")


def _registrations(directory: Path) -> list[Path]:
    with contextlib.suppress(OSError):
        return sorted(path for path in directory.iterdir() if not path.name.startswith("."))
    return []


def _others(layout: Layout, name: str, *, is_lasting: bool) -> list[Path]:
    """Return all registrations but that of the manager being registered: it may replace its own."""
    own = (layout.lasting if is_lasting else layout.passing) / name
    return [p for d in (layout.lasting, layout.passing) for p in _registrations(d) if p != own]


def _sweep(layout: Layout) -> None:
    """Remove what killed demos and tests left, now that the processes which made it have ended.

    1. Half-written files. 2. Passing registrations. 3. Private layouts.
    """
    # 1. files are only written under the lock, and this process has it
    for directory in (layout.conf.parent, layout.handler.parent, layout.lasting, layout.passing):
        for path in directory.glob(f"{_TEMPORARY}*"):
            path.unlink()
    # 2. lines: socket path, uid, pid, start time; the last two tell a process from a later one of its number
    for path in _registrations(layout.passing):
        lines = path.read_text(encoding="utf-8").split("\n")
        if len(lines) < 4 or not lines[2].isdigit() or start_time(int(lines[2])) != lines[3]:
            path.unlink(missing_ok=True)
    # 3. by the owner in their names
    for dead in waste(layout):
        dead.conf.unlink(missing_ok=True)
        for directory in (dead.handler.parent, dead.lasting, dead.passing):
            shutil.rmtree(directory, ignore_errors=True)


@contextlib.contextmanager
def _locked(layout: Layout) -> Iterator[None]:
    """Hold this machine's only lock on these files: the directory that request-key itself reads."""
    # flock(2) on the directory needs no lock file that a killed process could leave behind.
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
            os.fsync(descriptor)  # before the rename, or a crash could leave an empty file under the name
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
