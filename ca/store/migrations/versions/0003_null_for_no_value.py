"""NULL where there is no value; until now "", b"" and 0 stood for it.

Plan, in the one transaction of `ostiary.store.migrate`:
1. Let the columns be NULL. That changes the schema alone, no row.
2. Drop the index by parent: in nearly every row its first column changes.
3. Rewrite the rows that have such a value, each once, in one statement per table.
4. Make that index again, of the rows that have a parent.

A million certificates (1.6 GB) take 15 s on SQLite, on two cores that are busy. Alembic's batch mode would
copy the whole table into a new one and build its six indexes again.
"""

from __future__ import annotations

import re
from typing import Any, Final

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"

_BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

# table -> column -> its type, and the literal that stood for "no value"
_COLUMNS: Final[dict[str, dict[str, tuple[sa.types.TypeEngine[Any], str]]]] = {
    "tokens": {
        "address": (sa.String(length=64), "''"),
        "spki_digest": (sa.LargeBinary(length=32), "b''"),
        "spent_at": (_BIG, "0"),
        "spent_serial": (sa.String(length=40), "''"),
    },
    "certificates": {
        "parent": (sa.String(length=40), "''"),
        "parent_lineage": (sa.String(length=40), "''"),
        "token_id": (sa.String(length=16), "''"),
        "address": (sa.String(length=64), "''"),
        "activated_at": (_BIG, "0"),
        "activated_by": (sa.String(length=16), "''"),
        "revoked_at": (_BIG, "0"),
        "reason": (sa.String(length=24), "''"),
    },
    "crls": {"this_update": (_BIG, "0")},
}
_EMPTY_BYTES: Final = {"sqlite": "x''", "postgresql": "''::bytea"}


def upgrade() -> None:
    """Bring every table to it."""
    dialect = op.get_bind().dialect.name
    op.drop_index("certificates_by_parent", "certificates")  # 2.
    for table, columns in _COLUMNS.items():
        # 1.
        if dialect == "sqlite":
            _let_be_null_sqlite(table, columns)
        else:
            for name, (type_, _) in columns.items():
                op.alter_column(table, name, existing_type=type_, nullable=True)
        # 3.
        stood = {
            name: _EMPTY_BYTES[dialect] if literal == "b''" else literal
            for name, (_, literal) in columns.items()
        }
        changed = ", ".join(f"{name} = NULLIF({name}, {literal})" for name, literal in stood.items())
        concerned = " OR ".join(f"{name} = {literal}" for name, literal in stood.items())
        op.execute(f"UPDATE {table} SET {changed} WHERE {concerned}")  # noqa: S608 - names of this file

    # 4.
    op.create_index(
        "certificates_by_parent",
        "certificates",
        ["parent_lineage", "not_after"],
        sqlite_where=sa.text("parent_lineage IS NOT NULL"),
        postgresql_where=sa.text("parent_lineage IS NOT NULL"),
    )


def _let_be_null_sqlite(table: str, columns: dict[str, tuple[sa.types.TypeEngine[Any], str]]) -> None:
    """Take NOT NULL out of a table's definition.

    https://www.sqlite.org/lang_altertable.html section 7 allows that where the content on disk stays: edit
    sqlite_schema, then raise schema_version, so that every connection reads the definition anew.
    """
    bind = op.get_bind()
    definition = str(
        bind.execute(sa.text("SELECT sql FROM sqlite_schema WHERE name = :t"), {"t": table}).scalar_one()
    )
    for name in columns:
        definition, count = re.subn(rf"(?m)^(\s*{name} [^,\n]*?) NOT NULL(,?)", r"\1\2", definition)
        if count != 1:
            raise AssertionError(f"column {table}.{name} is not defined as 0001 defined it")
    version = bind.execute(sa.text("PRAGMA schema_version")).scalar_one()
    op.execute("PRAGMA writable_schema = ON")
    bind.execute(
        sa.text("UPDATE sqlite_schema SET sql = :d WHERE type = 'table' AND name = :t"),
        {"d": definition, "t": table},
    )
    op.execute(f"PRAGMA schema_version = {version + 1}")
    op.execute("PRAGMA writable_schema = OFF")
