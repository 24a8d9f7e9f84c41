"""The read side of a ledger over HTTP, the same for every service (C2SP tlog-tiles).

    GET <prefix>/checkpoint                   the newest signed note
    GET <prefix>/tile/<L>/<N>[.p/<W>]         a tile of hashes
    GET <prefix>/tile/entries/<N>[.p/<W>]     a bundle of entries; also <prefix>/entries/<N>[.p/<W>]

Rules:
- Only what the newest checkpoint covers is served: an entry that is not signed yet does not exist here.
- A full tile never changes, so a client may keep it for ever. Entries are for readers of the ledger only, so
  no shared cache may store anything.
- The service decides who may read: `admit(req, entries)` raises, or returns.

Standard: c2sp.org/tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import falcon.asgi
from sqlalchemy import Engine

from ostiary.errors import NotFound
from ostiary.front.offload import Offload
from ostiary.ledger.checkpoint import read_checkpoint
from ostiary.ledger.tiles import TILE_WIDTH, Bundle, Tile, encode_bundle, parse_path, tile_width
from ostiary.store.database import reading
from ostiary.store.ledger_reader import LedgerReader
from ostiary.store.ledger_tables import LedgerTables

Admit = Callable[[falcon.asgi.Request, bool], Awaitable[None]]
"""Raises if the peer may not read; the flag says whether it requests entries."""

# "private": the client's own cache only (RFC 9111 section 5.2.2.7); "immutable": no revalidation (RFC 8246).
# A partial tile grows until it is full.
_FOR_EVER: Final = "private, max-age=31536000, immutable"
_NO_STORE: Final = "no-store"


def add_ledger_routes(
    app: falcon.asgi.App[Any, Any],
    prefix: str,
    *,
    engine: Engine,
    tables: LedgerTables,
    admit: Admit,
    offload: Offload,
) -> None:
    """Add the routes below `prefix` (no trailing slash).

    `engine` is read-only, made after the fork, and used on `offload`'s threads.
    """
    source = _Source(engine, tables, admit, offload)
    app.add_route(f"{prefix}/checkpoint", _Checkpoint(source))
    app.add_route(f"{prefix}/tile/{{place:path}}", _Tiles(source, "tile/"))
    app.add_route(f"{prefix}/entries/{{place:path}}", _Tiles(source, "tile/entries/"))


class _Source:
    """What the resources share; its reads block, and run on `offload`."""

    def __init__(self, engine: Engine, tables: LedgerTables, admit: Admit, offload: Offload) -> None:
        self._engine = engine
        self._tables = tables
        self.admit = admit
        self._offload = offload

    async def note(self) -> bytes:
        """Return the newest checkpoint."""
        return await self._offload.run(self._read_note)

    async def at(self, wanted: Tile | Bundle) -> bytes:
        """Return a tile of hashes or a bundle of entries; NotFound beyond the signed tree."""
        if isinstance(wanted, Tile):
            return await self._offload.run(self._read_hashes, wanted)
        return await self._offload.run(self._read_entries, wanted)

    def _read_note(self) -> bytes:
        with reading(self._engine) as tx:
            return LedgerReader(tx, self._tables).note()

    def _read_hashes(self, tile: Tile) -> bytes:
        # Checkpoint and hashes from one read transaction, so that they belong together.
        with reading(self._engine) as tx:
            reader = LedgerReader(tx, self._tables)
            _check_covered(reader, tile.level, tile.index, tile.width)
            return reader.hashes.tile(tile.level, tile.index, tile.width)

    def _read_entries(self, bundle: Bundle) -> bytes:
        with reading(self._engine) as tx:
            reader = LedgerReader(tx, self._tables)
            _check_covered(reader, 0, bundle.index, bundle.width)
            rows = reader.entries(bundle.index * TILE_WIDTH, bundle.width)
        return encode_bundle(entry for _, entry in rows)


def _check_covered(reader: LedgerReader, level: int, index: int, width: int) -> None:
    size = read_checkpoint(reader.note()).size
    if width > tile_width(level, index, size):
        raise NotFound(f"no tile {level}/{index} of width {width} in the signed tree of {size} entries")


class _Checkpoint:
    def __init__(self, source: _Source) -> None:
        self._source = source

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await self._source.admit(req, False)
        resp.content_type = "text/plain; charset=utf-8"
        resp.data = await self._source.note()


class _Tiles:
    def __init__(self, source: _Source, prefix: str) -> None:
        self._source = source
        self._prefix = prefix

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, place: str) -> None:
        # By the path as it was routed and not by the route: `tile/{place}` matches `tile/entries/...` as
        # well, and hashes need less permission than entries.
        asks_entries = f"{self._prefix}{place}".startswith("tile/entries/")
        await self._source.admit(req, asks_entries)
        wanted = parse_path(f"{self._prefix}{place}")
        resp.content_type = "application/octet-stream"
        resp.data = await self._source.at(wanted)
        resp.set_header("Cache-Control", _FOR_EVER if wanted.width == TILE_WIDTH else _NO_STORE)
