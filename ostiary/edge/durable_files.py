"""Writing files that others may not read and that a crash may not halve.

Rules:
- A write is whole or not at all: temporary file in the same directory, fsync, rename, fsync of the directory.
- Modes are given at creation, never afterwards; a private directory that others can enter is an operator's
  error.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path
from typing import Final

from ostiary.errors import Misconfigured

PRIVATE_FILE: Final = 0o600
PUBLIC_FILE: Final = 0o644
PRIVATE_DIRECTORY: Final = 0o700


def write_atomic(path: Path, content: bytes, *, mode: int) -> None:
    """Replace `path` durably; readers see the old content or the new, also after a power cut."""
    # In the same directory, because rename(2) replaces within one file system only; O_EXCL and O_NOFOLLOW,
    # because others may write there.
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(temporary, flags, mode)
    try:
        # The mode of open(2) passes through the umask, this one does not.
        os.fchmod(fd, mode)
        view = memoryview(content)
        while view:
            view = view[os.write(fd, view) :]
        # First the content, then the name: a name that is durable before its content is an empty file after a
        # power cut.
        os.fsync(fd)
        temporary.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    finally:
        os.close(fd)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def make_directory(
    path: Path, *, mode: int = PRIVATE_DIRECTORY, owner: tuple[int, int] | None = None
) -> None:
    """Make a directory (its parents get the default mode), or check that it is not wider than `mode`; `owner`
    is (uid, gid).
    """
    path.mkdir(mode=mode, parents=True, exist_ok=True)
    # lstat: a link would let its owner choose what is checked and whose owner is changed.
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise Misconfigured(f"'{path}' is not a directory")
    if owner is not None and (found.st_uid, found.st_gid) != owner:
        os.chown(path, *owner)
    if stat.S_IMODE(found.st_mode) & ~mode & 0o777:
        raise Misconfigured(
            f"'{path}' has mode {stat.S_IMODE(found.st_mode):o}, wanted {mode:o}: chmod {mode:o} '{path}'"
        )
