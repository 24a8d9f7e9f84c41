"""One service's ledger as `ostiary audit` reads it: through the admin process, and believing nothing of it.

Rules:
- Entries and hashes come in pages, so that a long ledger needs little memory; a verification reads them as
  bytes, the next page on its way while one is hashed.
- Nothing here is proven but the checkpoint's signature: `ostiary.ledger` proves the rest.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final

from ostiary.admin.client import AdminClient, Arguments
from ostiary.admin.protocol import decode_page, page_end
from ostiary.errors import NotFound
from ostiary.ledger.checkpoint import Checkpoint, VerifierKey, open_note
from ostiary.ledger.tiles import TILE_BYTES, TILE_WIDTH
from ostiary.ledger.tree import HASH_BYTES

PAGE: Final = 1000
"""Most entries per request; the admin process returns fewer where a channel's message can't take them."""


class AuditedLedger:
    """The ledger that one admin process presents; a `HashReader`."""

    def __init__(self, client: AdminClient, verifier: VerifierKey) -> None:
        self.client = client
        self.verifier = verifier
        # Full tiles of level 0 that came with the one asked for last.
        self._leaves: dict[int, bytes] = {}

    def checkpoint(self) -> tuple[bytes, Checkpoint]:
        """Return the newest signed note, and the checkpoint in it after checking its signature."""
        note = self.client.call("ledger.checkpoint")["note"].encode()
        return note, open_note(note, [self.verifier])

    def pages(self, first: int, end: int) -> Iterator[Sequence[bytes]]:
        """Yield the entries first..end-1 in order, as many as the service delivers."""

        def rest(at: int) -> Arguments:
            return {"first": at, "count": min(PAGE, end - at)}

        def following(page: bytes) -> Arguments | None:
            at, count = page_end(page)
            # A service that withholds entries ends it here; `verify_log` then finds them missing.
            return rest(at) if count and at < end else None

        if first < end:
            yield from map(decode_page, self.client.follow("ledger.page", rest(first), following))

    def indexed(self, first: int, end: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (index, entry) of a part, for people."""
        while first < end:
            page = self.client.call("ledger.entries", first=first, count=min(PAGE, end - first))
            if not page:
                return
            yield from ((row["index"], json.loads(row["entry"])) for row in page)
            first = page[-1]["index"] + 1

    def found(self, terms: Sequence[str], first: int) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (index, entry) of those that the service finds under any of these terms, from `first` on."""
        while page := self.client.call("ledger.find", terms=terms, first=first, count=PAGE):
            yield from ((row["index"], json.loads(row["entry"])) for row in page)
            first = page[-1]["index"] + 1

    def tile(self, level: int, index: int, width: int) -> bytes:
        """Return a tile of hashes, not yet proven."""
        if level == 0 and width == TILE_WIDTH:
            if index not in self._leaves:
                self._leaves = self._leaf_tiles(index)
            if index in self._leaves:
                return self._leaves[index]
        hashes = bytes.fromhex(
            self.client.call("ledger.tile", level=level, index=index, width=width)["hashes"]
        )
        if len(hashes) != width * HASH_BYTES:
            raise NotFound(f"no tile {level}/{index} of width {width}")
        return hashes

    def _leaf_tiles(self, index: int) -> dict[int, bytes]:
        hashes = self.client.fetch("ledger.leaves", tile=index)
        whole = range(0, len(hashes) - TILE_BYTES + 1, TILE_BYTES)
        return {index + at // TILE_BYTES: hashes[at : at + TILE_BYTES] for at in whole}
