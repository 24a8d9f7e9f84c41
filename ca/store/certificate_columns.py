"""Certificates between the columns of their table and their rows, and the only place that knows both.

    column       row
    packed_tbs   tbs: the bytes themselves (ca/store/tbs_packing.py)
    lineage      the own serial number where the column is NULL
    parent       the parent's lineage where the column is NULL
    reserved     none: it keeps room for the signature

All others have the same name and value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Connection, Select

from ca.store.rows import CertificateRow
from ca.store.tbs_packing import Templates, pack, unpack

_ROOM: Final = bytes(72)
"""As long as a signature by P-256 becomes (DER of two integers of 32 octets)."""
_NAMES: Final = tuple(each.name for each in fields(CertificateRow) if each.name != "tbs")
_VALUES: Final = attrgetter(*_NAMES)


def read_certificates(tx: Connection, query: Select[Any], templates: Templates) -> list[CertificateRow]:
    """The rows that a `select(CERTIFICATES)` finds, in its order."""
    return certificates_of(tx, tx.execute(query).mappings().all(), templates)


def certificates_of(
    tx: Connection, found: Sequence[Mapping[Any, Any]], templates: Templates
) -> list[CertificateRow]:
    """The rows of results, each with all columns; the templates that they need are read."""
    wanted = {(each["shard"], each["subsystem"]) for each in found}
    known = templates.read(tx, wanted) if wanted else {}
    return [_row(dict(each), known.get((each["shard"], each["subsystem"]))) for each in found]


def _row(columns: dict[str, Any], template: bytes | None) -> CertificateRow:
    tbs = unpack(columns.pop("packed_tbs"), template)
    del columns["reserved"]
    columns["lineage"] = columns["lineage"] or columns["serial"]
    columns["parent"] = columns["parent"] or columns["parent_lineage"]
    return CertificateRow(tbs=tbs, **columns)


def columns_of(row: CertificateRow, template: bytes) -> dict[str, Any]:
    """What is stored of a row."""
    columns = dict(zip(_NAMES, _VALUES(row), strict=True))
    if row.lineage == row.serial:
        columns["lineage"] = None
    if row.parent == row.parent_lineage:
        columns["parent"] = None
    columns["packed_tbs"] = pack(row.tbs, template)
    columns["reserved"] = _ROOM if row.signature is None else None
    return columns
