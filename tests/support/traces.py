"""Searches the places where a secret can leave a trace: files, and processes' arguments, environments and
memory.

Reading another process's memory requires root.
"""

from __future__ import annotations

import base64
import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

_CHUNK_BYTES = 1 << 20
_MAP = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (r\S*) \S+ \S+ \d+\s*(.*)")


def forms(secret: bytes) -> dict[str, bytes]:
    """Return the forms in which a secret may appear: raw, hex, base64 at its three offsets, reversed."""
    found = {"raw": secret, "hex": secret.hex().encode(), "reversed": secret[::-1]}
    for offset in range(3):
        encoded = base64.b64encode(b"\x00" * offset + secret)
        # The first and last characters depend on what stands around it.
        found[f"base64+{offset}"] = encoded[4 if offset else 0 : -4]
    return found


def descendants(pid: int) -> list[int]:
    """Return the process and its descendants, as /proc shows them now."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                stat = (entry / "stat").read_text()
                parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found


def in_files(directory: Path, needles: Iterable[bytes]) -> list[str]:
    """Return the files below a directory that contain one of the needles."""
    wanted = list(needles)
    return [
        str(path)
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and any(needle in path.read_bytes() for needle in wanted)
    ]


def in_arguments(pid: int, needles: Iterable[bytes]) -> bool:
    """Return whether a process has a needle in its arguments or environment."""
    shown = b"".join(_read(f"/proc/{pid}/{name}") for name in ("cmdline", "environ"))
    return any(needle in shown for needle in needles)


def in_memory(pid: int, needles: Iterable[bytes]) -> bool:
    """Return whether any readable page of a process contains a needle."""
    return bool(found_in_memory(pid, {str(at): [needle] for at, needle in enumerate(needles)}))


def found_in_memory(pid: int, needles: Mapping[str, Iterable[bytes]]) -> set[str]:
    """Return the names that have a needle in a process's memory, except in read-only pages of a file."""
    wanted = {name: list(forms) for name, forms in needles.items()}
    found: set[str] = set()
    for block in _memory(pid):
        found |= {name for name in wanted.keys() - found if any(form in block for form in wanted[name])}
    return found


def matches_in_memory(pid: int, pattern: re.Pattern[bytes]) -> set[bytes]:
    """Return what a pattern matches in a process's memory."""
    return {match for block in _memory(pid) for match in pattern.findall(block)}


def role_of(pid: int) -> str:
    """Return how a process describes itself: the last words of its command line."""
    return _read(f"/proc/{pid}/cmdline").replace(b"\x00", b" ").decode(errors="replace").strip()


def _read(path: str) -> bytes:
    with contextlib.suppress(OSError):
        return Path(path).read_bytes()
    return b""


def _memory(pid: int) -> Iterator[bytes]:
    maps = _read(f"/proc/{pid}/maps").decode(errors="replace").splitlines()
    try:
        fd = os.open(f"/proc/{pid}/mem", os.O_RDONLY)
    except OSError:
        return
    try:
        for line in maps:
            match = _MAP.match(line)
            if match and not _is_a_files(match[3], match[4]):
                yield from _region(fd, int(match[1], 16), int(match[2], 16))
    finally:
        os.close(fd)


def _is_a_files(permissions: str, name: str) -> bool:
    """Return whether a mapping's content comes from a file or the kernel, not from the process."""
    is_file = name.startswith("/") and not name.startswith("/memfd:")
    return name.startswith(("[v", "/dev/")) or (is_file and "w" not in permissions)


def _region(fd: int, start: int, end: int) -> Iterator[bytes]:
    """Yield a mapping in blocks that overlap, so that no needle is divided."""
    overlap = b""
    for at in range(start, end, _CHUNK_BYTES):
        try:
            block = os.pread(fd, min(_CHUNK_BYTES, end - at), at)
        except OSError:
            return
        if block.count(0) != len(block):
            yield overlap + block
        overlap = block[-4096:]
