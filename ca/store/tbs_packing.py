"""How the store keeps to-be-signed bytes: as what tells them from the first of their sub-system and shard.

Two certificates of one sub-system differ in key, names, dates and serial number, which is about 190 of 825
bytes. So the first to-be-signed bytes of each (shard, sub-system) are their template, whole and never
changed, and all of them are deflated with it as the preset dictionary (RFC 1950; zlib). A shard opens within
the hour and has the CA's addresses and issuing key as they are then, so a template never grows old.

Rules:
- zlib's format and not the bare stream: its DICTID and checksum (Adler-32) tell a wrong template and a
  damaged row from the right ones.
- Bytes that would not become smaller are kept whole, and so are those that were stored before there were
  templates. Packed ones begin with 0x48, which DER of a SEQUENCE (0x30) never does.
- A template is remembered once it was read in a transaction that has added none: what a turn adds counts
  only when it is committed.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from typing import Final

from sqlalchemy import Connection, select

from ca.store.tables import TBS_TEMPLATES
from ostiary.errors import InternalFault

# 4 KiB: template and bytes together, with room for many endpoints. A template that is longer is used from its
# end.
_WINDOW_BITS: Final = 12
_MEMORY_LEVEL: Final = 4
_LEVEL: Final = 6
# RFC 1950, CMF: a window of 2**12 and method 8.
_PACKED: Final = (_WINDOW_BITS - 8) << 4 | 8
# 0.8 MB of templates; more (shard, sub-system) than a recorder or a front has to do with at a time.
_MAX_REMEMBERED: Final = 1024

Key = tuple[int, str]
"""Shard and sub-system."""


def pack(tbs: bytes, template: bytes) -> bytes:
    """Return the bytes as the store keeps them."""
    packer = zlib.compressobj(
        _LEVEL, zlib.DEFLATED, _WINDOW_BITS, _MEMORY_LEVEL, zlib.Z_DEFAULT_STRATEGY, template
    )
    packed = packer.compress(tbs) + packer.flush()
    return packed if len(packed) < len(tbs) or tbs[:1] == bytes([_PACKED]) else tbs


def unpack(packed: bytes, template: bytes | None) -> bytes:
    """Return what was packed by that template; InternalFault where it was not, or is damaged."""
    if packed[:1] != bytes([_PACKED]):
        return packed
    try:
        unpacker = zlib.decompressobj(_WINDOW_BITS, template or b"")
        tbs = unpacker.decompress(packed)
    except zlib.error as exc:
        raise InternalFault("a certificate's stored bytes can't be read: the store is damaged") from exc
    if not unpacker.eof:
        raise InternalFault("a certificate's stored bytes are cut off: the store is damaged")
    return tbs


class Templates:
    """The templates that one process has read. Threads may share it: what they write is the same."""

    def __init__(self) -> None:
        self._known: dict[Key, bytes] = {}

    def read(self, tx: Connection, keys: Iterable[Key]) -> dict[Key, bytes]:
        """The templates of these keys, as far as there are any. Remembers them: `tx` has added none."""
        found = self.look_up(tx, keys)
        if len(self._known) > _MAX_REMEMBERED:
            self._known.clear()
        self._known.update(found)
        return found

    def look_up(self, tx: Connection, keys: Iterable[Key]) -> dict[Key, bytes]:
        """The same in a transaction that may have added some; remembers nothing."""
        found: dict[Key, bytes] = {}
        for key in set(keys):
            template = self._known.get(key)
            if template is None:
                template = _stored(tx, key)
            if template is not None:
                found[key] = template
        return found


def _stored(tx: Connection, key: Key) -> bytes | None:
    c = TBS_TEMPLATES.c
    query = select(c.tbs).where(c.shard == key[0], c.subsystem == key[1])
    template: bytes | None = tx.execute(query).scalar_one_or_none()
    return template
