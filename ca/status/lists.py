"""The signed lists as clients fetch them: the bytes of each version are in memory once, whoever reads them.

Rules:
- The store is asked for the lists' numbers at most every LOOK_S, and for a list's bytes when its number has
  grown. Whoever asks meanwhile waits for the same answer.
- A client that reads slowly holds its place in a version, not a copy of it. A version that was replaced stays
  while somebody reads it.
- All versions together have at most MAX_BYTES. Beyond that the oldest go, first of those that were replaced:
  who reads one is disconnected. A current one that went is read again for the next client.
- The tag of a version is made once.

Owner: the worker's loop. What reads, parses and hashes runs in the pool of `Offload`.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, Protocol, TypeVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.store.reader import StoredCRL
from ostiary.edge.clock import Clock
from ostiary.errors import Busy
from ostiary.front.offload import Offload

# A fifth of the second within which a revocation shows.
LOOK_S: Final = 0.2
# The bundle of 10^6 revoked certificates has 50 MB; its versions share what did not change.
MAX_BYTES: Final = 256 << 20
# What a connection holds of an answer at a time, beside the kernel's buffer.
PIECE_BYTES: Final = 64 << 10
_TAG_DIGITS: Final = 32

T = TypeVar("T")


class ListReader(Protocol):
    """The store's lists, of a state that was committed before it was asked; Busy where it can't be read."""

    def crl_numbers(self) -> dict[int, int]: ...

    def crls(self, shards: Sequence[int]) -> dict[int, StoredCRL]: ...


class Part:
    """One signed list in one format. `content` is None once it had to go."""

    __slots__ = ("__weakref__", "content", "digest", "number", "size_bytes", "this_update")

    def __init__(self, number: int, this_update: datetime, content: bytes) -> None:
        self.number = number
        self.this_update = this_update
        self.content: bytes | None = content
        self.size_bytes = len(content)
        self.digest = hashlib.sha256(content).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What one answer consists of; `tag` is a strong validator (RFC 9110 section 8.8.3)."""

    parts: tuple[Part, ...]
    size_bytes: int
    tag: str

    def whole(self) -> bytes:
        """Return all bytes, copied."""
        return b"".join(_content(part) for part in self.parts)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Return the bytes, at most PIECE_BYTES at a time; `Busy` where they had to go."""
        # Copies: while a client does not read, its task holds the last piece, and a view would hold the list.
        for part in self.parts:
            for begin in range(0, part.size_bytes, PIECE_BYTES):
                yield _content(part)[begin : begin + PIECE_BYTES]


def _content(part: Part) -> bytes:
    if part.content is None:
        raise Busy("a newer list took the place of this one")
    return part.content


class Lists:
    """The lists of one CA in one worker."""

    def __init__(self, reader: ListReader, offload: Offload, clock: Clock, *, root_crl_der: bytes) -> None:
        self._reader = reader
        self._offload = offload
        self._clock = clock
        # The lists' numbers, by shard, and when they were asked for.
        self._numbers: dict[int, int] = {}
        self._looked_ns: int | None = None
        self._ders: dict[int, Version] = {}
        # The bundle is made of these; the root's list never changes while this process lives.
        self._pems: dict[int, Part] = {}
        self._root = _pem_part(StoredCRL(number=0, der=root_crl_der))
        self._bundle: Version | None = None
        self._memory = _Memory()
        self._look = _Shared(self._look_now)
        self._make_bundle = _Shared(self._make_bundle_now)
        self._read: dict[int, _Shared[Version | None]] = {}

    async def shard(self, shard: int) -> Version | None:
        """Return the newest signed list of a shard (-1: the complete one), DER; None if there is none."""
        await self._see()
        number = self._numbers.get(shard)
        if number is None:
            return None
        kept = self._ders.get(shard)
        if kept is not None and kept.parts[0].number >= number:
            return kept
        # No more entries than the store has lists: a shard that does not exist never gets here.
        return await self._read.setdefault(shard, _Shared(lambda: self._read_now(shard)))()

    async def bundle(self) -> Version:
        """Return the newest list of each shard and the root's, PEM, one after the other."""
        # nginx and curl check the whole chain from one file, so the root's list must be in it.
        await self._see()
        return self._bundle or await self._make_bundle()

    async def _see(self) -> None:
        """Know the lists' numbers as they were at most LOOK_S ago."""
        if self._looked_ns is None or self._clock.monotonic_ns() - self._looked_ns >= LOOK_S * 1e9:
            await self._look()

    async def _look_now(self) -> None:
        now_ns = self._clock.monotonic_ns()
        numbers = await self._offload.run(self._reader.crl_numbers)
        if numbers != self._numbers:
            self._numbers = numbers
            self._bundle = None
            self._ders = {shard: kept for shard, kept in self._ders.items() if shard in numbers}
            self._pems = {shard: kept for shard, kept in self._pems.items() if shard in numbers}
        self._looked_ns = now_ns

    async def _read_now(self, shard: int) -> Version | None:
        found = await self._offload.run(_read_parts, self._reader, [shard], _der_part)
        self._ders |= {shard: _version([part]) for shard, part in found.items()}
        self._make_room(found.values())
        return self._ders.get(shard)

    async def _make_bundle_now(self) -> Version:
        numbers = self._numbers
        stale = [
            shard for shard, number in numbers.items() if shard >= 0 and not self._has_pem(shard, number)
        ]
        found = await self._offload.run(_read_parts, self._reader, stale, _pem_part) if stale else {}
        self._pems |= found
        made = _version([*(self._pems[shard] for shard in sorted(self._pems)), self._root])
        self._make_room(found.values())
        # Unless something was published meanwhile.
        if self._numbers is numbers:
            self._bundle = made
        return made

    def _has_pem(self, shard: int, number: int) -> bool:
        return shard in self._pems and self._pems[shard].number >= number

    def _make_room(self, new: Iterable[Part]) -> None:
        current = {*self._pems.values(), *(kept.parts[0] for kept in self._ders.values())}
        if self._memory.take(set(new), current):
            self._ders = {shard: kept for shard, kept in self._ders.items() if kept.parts[0].content}
            self._pems = {shard: kept for shard, kept in self._pems.items() if kept.content}
            self._bundle = None


class _Memory:
    """All parts that anybody holds, in the order in which they were read."""

    def __init__(self) -> None:
        self._parts: weakref.WeakValueDictionary[int, Part] = weakref.WeakValueDictionary()
        self._count = itertools.count()

    def take(self, new: AbstractSet[Part], current: AbstractSet[Part]) -> bool:
        """Take in `new`, drop what does not fit beside it; return whether one of `current` had to go."""
        self._parts.update((next(self._count), part) for part in new)
        held = [part for part in self._parts.values() if part.content is not None]
        excess_bytes = sum(part.size_bytes for part in held) - MAX_BYTES
        lost_current = False
        # Sorting is stable: the oldest of those that were replaced, then the oldest of the others.
        for part in sorted(held, key=lambda part: part in current):
            if excess_bytes <= 0:
                break
            if part not in new:
                part.content = None
                excess_bytes -= part.size_bytes
                lost_current = lost_current or part in current
        return lost_current


class _Shared(Generic[T]):
    """An asynchronous function of which one call runs at a time; who calls meanwhile shares its result."""

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._function = function
        self._running: asyncio.Task[T] | None = None

    async def __call__(self) -> T:
        if self._running is None or self._running.done():
            self._running = asyncio.get_running_loop().create_task(self._function())
            self._running.add_done_callback(_note_taken)
        # Shielded: the others still want it when a client leaves.
        return await asyncio.shield(self._running)


def _note_taken(task: asyncio.Task[Any]) -> None:
    # Else asyncio reports an error that nobody was left to take.
    if not task.cancelled():
        task.exception()


def _read_parts(
    reader: ListReader, shards: Sequence[int], build: Callable[[StoredCRL], Part]
) -> dict[int, Part]:
    return {shard: build(stored) for shard, stored in reader.crls(shards).items()}


def _der_part(stored: StoredCRL) -> Part:
    return Part(stored.number, x509.load_der_x509_crl(stored.der).last_update_utc, stored.der)


def _pem_part(stored: StoredCRL) -> Part:
    crl = x509.load_der_x509_crl(stored.der)
    return Part(stored.number, crl.last_update_utc, crl.public_bytes(Encoding.PEM))


def _version(parts: Sequence[Part]) -> Version:
    tag = hashlib.sha256(b"".join(part.digest for part in parts)).hexdigest()[:_TAG_DIGITS]
    return Version(parts=tuple(parts), size_bytes=sum(part.size_bytes for part in parts), tag=tag)
