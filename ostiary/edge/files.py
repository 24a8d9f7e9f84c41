"""Reading files: within a limit, and a secret only where nobody else may read it.

Writing is in `ostiary.edge.durable_files`.
"""

from __future__ import annotations

import stat
from pathlib import Path

from ostiary.errors import Misconfigured


def read_limited(path: Path, *, limit_bytes: int) -> bytes:
    """The whole file; `Misconfigured` where it is missing, unreadable, or larger than it may be."""
    try:
        with path.open("rb") as file:
            # One byte more than allowed tells a file that is too large, also one that never ends (/dev/zero).
            content = file.read(limit_bytes + 1)
    except OSError as exc:
        raise Misconfigured(f"can't read '{path}': {exc.strerror}") from exc
    if len(content) > limit_bytes:
        raise Misconfigured(f"'{path}' has more than {limit_bytes} bytes")
    return content


def read_private(path: Path, *, limit_bytes: int) -> bytes:
    """As `read_limited`, for a file with a secret: `Misconfigured` where its mode lets group or others in."""
    content = read_limited(path, limit_bytes=limit_bytes)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise Misconfigured(
            f"'{path}' has mode {mode:o}; a file with a secret must have mode 600: chmod 600 '{path}'"
        )
    return content
