"""How many connections a worker keeps, how long each may stay in a phase, and which one makes room. Pure.

    ARRIVING    no complete head yet: handshake, silence, or part of a head
    ASKING      the head is there, the body is not
    WORKING     the request is whole, the application is at work
    ANSWERING   the answer waits for the client to read it
    IDLE        nothing is due: the next request may come
    LEAVING     half closed; the client has not closed yet

Rules:
- A phase has one duration, so the order in which connections entered it is the order of their deadlines, and
  nothing here ever looks at all connections.
- Whoever needs room takes it from its own source first: beyond a source's share a new connection, or more
  bytes, cost that source its connection that has waited longest. One client can starve itself only.
- Beyond the whole, the source that has most makes room by its connection that has waited longest. One that
  WORKING has never does: the act may be recorded already, and the wait for it is bounded elsewhere.

Time is an argument: seconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, Generic, TypeVar

KeyT = TypeVar("KeyT", bound=Hashable)


class Phase(IntEnum):
    """What a connection waits for; see the module's docstring. The values are indexes of tables here."""

    ARRIVING = 0
    ASKING = 1
    WORKING = 2
    ANSWERING = 3
    IDLE = 4
    LEAVING = 5


# Which make room, in this order: first those that will not be missed.
_MAKE_ROOM: Final = (Phase.LEAVING, Phase.ARRIVING, Phase.ASKING, Phase.ANSWERING, Phase.IDLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomLimits:
    """What a worker has room for; `seconds` says how long a connection may stay in each phase."""

    connections: int
    source_connections: int
    held_bytes: int
    source_held_bytes: int
    seconds: Mapping[Phase, float]


class _Stay:
    """One connection's part of the accounts."""

    __slots__ = ("held_bytes", "phase", "source")

    def __init__(self, source: str) -> None:
        self.source = source
        self.phase = Phase.ARRIVING
        self.held_bytes = 0


class _Source(Generic[KeyT]):
    """What one source has, in the order in which it entered each phase."""

    __slots__ = ("connections", "held_bytes", "waiting")

    def __init__(self) -> None:
        self.connections = 0
        self.held_bytes = 0
        self.waiting: list[dict[KeyT, None]] = [{} for _ in Phase]


class Room(Generic[KeyT]):
    """The accounts of one worker; keys are its connections."""

    def __init__(self, limits: RoomLimits) -> None:
        self._limits = limits
        self._stays: dict[KeyT, _Stay] = {}
        self._sources: dict[str, _Source[KeyT]] = {}
        # phase -> key -> deadline (s), in the order of the deadlines.
        self._deadlines: list[dict[KeyT, float]] = [{} for _ in Phase]
        self._seconds = [limits.seconds[phase] for phase in Phase]
        self._held_bytes = 0
        # how many connections -> the sources that have so many; and the most that any has.
        self._sources_with: dict[int, dict[str, None]] = {}
        self._most = 0

    def __len__(self) -> int:
        return len(self._stays)

    def __iter__(self) -> Iterator[KeyT]:
        return iter(list(self._stays))

    def phase(self, key: KeyT) -> Phase:
        """Return the phase of a connection that is here."""
        return self._stays[key].phase

    def enter(self, key: KeyT, source: str, now_s: float) -> KeyT | None:
        """Take in a connection, ARRIVING; return the one that must make room for it, None if none must.

        That may be the new one itself, where no other can.
        """
        its = self._sources.setdefault(source, _Source())
        must_go: KeyT | None = None
        # Chosen before the newcomer is here: it is ARRIVING, and would make room before most.
        if its.connections >= self._limits.source_connections:
            must_go = self._first_of(its) or key
        elif len(self._stays) >= self._limits.connections:
            must_go = self._first_of(self._sources[next(iter(self._sources_with[self._most]))]) or key
        self._stays[key] = _Stay(source)
        self._count(source, its, 1)
        its.waiting[Phase.ARRIVING][key] = None
        self._deadlines[Phase.ARRIVING][key] = now_s + self._seconds[Phase.ARRIVING]
        return must_go

    def move(self, key: KeyT, phase: Phase, now_s: float) -> None:
        """Have a connection enter a phase, even the one that it is in: its time begins anew."""
        stay = self._stays[key]
        waiting = self._sources[stay.source].waiting
        del waiting[stay.phase][key]
        del self._deadlines[stay.phase][key]
        stay.phase = phase
        waiting[phase][key] = None
        self._deadlines[phase][key] = now_s + self._seconds[phase]

    def hold(self, key: KeyT, held_bytes: int) -> KeyT | None:
        """Note how many bytes a connection has in memory now; return the one that must make room, if any."""
        stay = self._stays[key]
        change = held_bytes - stay.held_bytes
        if change == 0:
            return None
        its = self._sources[stay.source]
        stay.held_bytes = held_bytes
        its.held_bytes += change
        self._held_bytes += change
        if change < 0:
            return None
        if its.held_bytes <= self._limits.source_held_bytes:
            if self._held_bytes <= self._limits.held_bytes:
                return None
            its = max(self._sources.values(), key=lambda each: each.held_bytes)
        return self._first_of(its, holds=True) or key

    def leave(self, key: KeyT) -> None:
        """Take out a connection that has ended; does nothing if it is not here."""
        stay = self._stays.pop(key, None)
        if stay is None:
            return
        its = self._sources[stay.source]
        self._count(stay.source, its, -1)
        its.held_bytes -= stay.held_bytes
        self._held_bytes -= stay.held_bytes
        del its.waiting[stay.phase][key]
        del self._deadlines[stay.phase][key]
        if its.connections == 0:
            del self._sources[stay.source]

    def expired(self, now_s: float) -> list[KeyT]:
        """Return the connections whose time in their phase is over, the earliest of each phase first."""
        found: list[KeyT] = []
        for deadlines in self._deadlines:
            for key, deadline_s in deadlines.items():
                if deadline_s > now_s:
                    break
                found.append(key)
        return found

    def _count(self, source: str, its: _Source[KeyT], change: int) -> None:
        """Note one connection more or less, so that the source with most is found at once."""
        if its.connections:
            del self._sources_with[its.connections][source]
        its.connections += change
        if its.connections:
            self._sources_with.setdefault(its.connections, {})[source] = None
        self._most = max(self._most, its.connections)
        while self._most and not self._sources_with[self._most]:
            del self._sources_with[self._most]
            self._most -= 1

    def _first_of(self, source: _Source[KeyT], *, holds: bool = False) -> KeyT | None:
        """Return the connection of a source that makes room first, of those that hold bytes if `holds`."""
        for phase in _MAKE_ROOM:
            for key in source.waiting[phase]:
                if not holds or self._stays[key].held_bytes:
                    return key
        return None
