"""The keyholder's high-water mark in a file of its own directory.

Layout (48 bytes, written in one pwrite):
    magic    8   "osthw-1" and a newline
    size     8   big-endian
    root    32

A write reaches the page cache, not the disk: it survives the death of the process. After a power cut the mark
may be older than the last tree that was signed, never newer than the recorder's store, which was durable
first (docs/adr/0009). A sync for each batch would cost as much as the recorder's commit. A process's first
write is synced, so that a power cut never takes the whole mark. One process uses the file at a time.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from ostiary.errors import Misconfigured
from ostiary.keyholder.witness import Mark

_LAYOUT = struct.Struct(">8sQ32s")
_MAGIC = b"osthw-1\n"


class FileHighWater:
    """Implements `HighWater`; keeps the file open, so that each batch costs one pwrite."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._is_synced = False

    def load(self) -> Mark | None:
        """The mark, None for a new file; raises Misconfigured for a damaged one."""
        # One byte more than the layout, so that a longer file is seen to be one.
        raw = os.pread(self._fd, _LAYOUT.size + 1, 0)
        if not raw:
            return None
        if len(raw) != _LAYOUT.size or not raw.startswith(_MAGIC):
            raise Misconfigured(
                f"the high-water mark '{self._path}' is damaged: "
                "restore it from a backup, or begin a new epoch"
            )
        _, size, root = _LAYOUT.unpack(raw)
        return Mark(size=size, root=root)

    def store(self, mark: Mark) -> None:
        """Replace the mark."""
        # 48 bytes at offset 0 lie in one page, which the kernel changes under its lock: no reader, and no
        # crash of this process, ever sees half of a mark.
        os.pwrite(self._fd, _LAYOUT.pack(_MAGIC, mark.size, mark.root), 0)
        if not self._is_synced:
            os.fsync(self._fd)
            self._is_synced = True
