"""Fewer bytes for each certificate: 3.0 kB with its entry until now.

Plan, in the one transaction of `ostiary.store.migrate`:
1. The ledger's index keeps digests of its terms.
2. There is a table for the templates of to-be-signed bytes. Those that are there stay whole, as the reader
   takes them: they are of certificates that end within days.
3. Serial numbers and agents' UUIDs become octets, in certificates and revocations. A lineage's first
   certificate no longer names its lineage, nor a certificate its parent where that is such a first one.
   SQLite gets new tables, filled in the order of the old ones, and their indexes at the end: each row becomes
   smaller, and an index is made fastest when its rows are there.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa
from alembic import op

from ostiary.store.ledger_migration import digest_ledger_index_3

revision = "0004"
down_revision = "0003"

_BIG: Final = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OTHER: Final = bytes(20)
"""Before a text that is not printed as its octets are (ca/store/columns.py)."""
_SERIALS: Final = {
    "certificates": ("serial", "lineage", "parent", "parent_lineage"),
    "revocations": ("serial",),
}


def upgrade() -> None:
    """Bring every table to it."""
    digest_ledger_index_3()  # 1.
    op.create_table(  # 2.
        "tbs_templates",
        sa.Column("shard", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("subsystem", sa.String(length=64), nullable=False),
        sa.Column("tbs", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("shard", "subsystem"),
    )
    # 3.
    if op.get_bind().dialect.name == "sqlite":
        _on_sqlite()
    else:
        _on_postgresql()
    op.create_index(
        "certificates_by_lineage",
        "certificates",
        ["lineage", "not_after"],
        sqlite_where=sa.text("lineage IS NOT NULL"),
        postgresql_where=sa.text("lineage IS NOT NULL"),
    )


def _on_sqlite() -> None:
    driver: Any = op.get_bind().connection.driver_connection
    driver.create_function("serial_4", 1, _serial, deterministic=True)
    driver.create_function("uuid_4", 1, _uuid, deterministic=True)
    for name in ("agent", "deadline", "lineage", "node", "parent", "time"):
        op.drop_index(f"certificates_by_{name}", "certificates")
    op.rename_table("certificates", "certificates_3")
    _create_certificates()
    changed = {name: f"serial_4({name})" for name in _SERIALS["certificates"]}
    changed |= {
        "agent": "uuid_4(agent)",
        "lineage": "CASE WHEN lineage <> serial THEN serial_4(lineage) END",
        "parent": "CASE WHEN parent IS NOT parent_lineage THEN serial_4(parent) END",
        "packed_tbs": "tbs",
        "reserved": "NULL",
    }
    _copy("certificates", changed)
    op.create_index("certificates_by_agent", "certificates", ["agent", "not_after"])
    op.create_index("certificates_by_node", "certificates", ["node", "subsystem", "not_after"])
    op.create_index("certificates_by_time", "certificates", ["issued_at"])
    for name, columns in (("deadline", ["deadline"]), ("parent", ["parent_lineage", "not_after"])):
        where = sa.text(f"{columns[0]} IS NOT NULL")
        op.create_index(f"certificates_by_{name}", "certificates", columns, sqlite_where=where)
    op.drop_index("revocations_by_shard", "revocations")
    op.rename_table("revocations", "revocations_3")
    _create_revocations()
    _copy("revocations", {"serial": "serial_4(serial)"})
    op.create_index("revocations_by_shard", "revocations", ["shard", "n"])


def _copy(table: str, changed: dict[str, str]) -> None:
    """Fill a new table from the old one, and drop that."""
    columns = [each["name"] for each in sa.inspect(op.get_bind()).get_columns(table)]
    old = ", ".join(changed.get(name, name) for name in columns)
    op.execute(
        f"INSERT INTO {table} ({', '.join(columns)}) SELECT {old} FROM {table}_3 ORDER BY rowid"  # noqa: S608 - names of this file
    )
    op.drop_table(f"{table}_3")


def _on_postgresql() -> None:
    op.drop_index("certificates_by_lineage", "certificates")
    op.alter_column("certificates", "lineage", existing_type=sa.String(length=40), nullable=True)
    op.execute(
        "UPDATE certificates SET lineage = NULLIF(lineage, serial), parent = NULLIF(parent, parent_lineage)"
    )
    hexadecimal = r"^([0-9a-f]{2}){1,20}$"
    uuid = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
    for table, names in _SERIALS.items():
        changed = ", ".join(
            f"ALTER {name} TYPE BYTEA USING CASE WHEN {name} ~ '{hexadecimal}' AND {name} !~ '^00' "
            f"THEN decode({name}, 'hex') ELSE {_as_it_is(name)} END"
            for name in names
        )
        if table == "certificates":
            changed += (
                f", ALTER agent TYPE BYTEA USING CASE WHEN agent ~ '{uuid}' "
                f"THEN decode(replace(agent, '-', ''), 'hex') ELSE {_as_it_is('agent')} END"
            )
        op.execute(f"ALTER TABLE {table} {changed}")
    op.alter_column("certificates", "tbs", new_column_name="packed_tbs")
    op.add_column("certificates", sa.Column("reserved", sa.LargeBinary(), nullable=True))


def _as_it_is(name: str) -> str:
    return rf"'\x{_OTHER.hex()}'::bytea || convert_to({name}, 'UTF8')"


def _serial(text: str | None) -> bytes | None:
    if text is None:
        return None
    octets = _octets(text)
    if 0 < len(octets) <= 20 and octets[0] and octets.hex() == text:
        return octets
    return _OTHER + text.encode()


def _uuid(text: str) -> bytes:
    octets = _octets(text.replace("-", ""))
    digits = octets.hex()
    printed = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return octets if len(octets) == 16 and printed == text else _OTHER + text.encode()


def _octets(digits: str) -> bytes:
    try:
        return bytes.fromhex(digits)
    except ValueError:
        return b""


def _create_certificates() -> None:
    op.create_table(
        "certificates",
        sa.Column("serial", sa.LargeBinary(), nullable=False),
        sa.Column("lineage", sa.LargeBinary(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("status", sa.String(length=10), nullable=False),
        sa.Column("stopped", sa.Boolean(), nullable=False),
        sa.Column("bootstrap", sa.Boolean(), nullable=False),
        sa.Column("deadline", _BIG, nullable=True),
        sa.Column("subsystem", sa.String(length=64), nullable=False),
        sa.Column("node", sa.String(length=64), nullable=False),
        sa.Column("agent", sa.LargeBinary(), nullable=False),
        sa.Column("capabilities", sa.Text(), nullable=False),
        sa.Column("granted", sa.Text(), nullable=False),
        sa.Column("ceiling", sa.Text(), nullable=True),
        sa.Column("depth", sa.Integer(), nullable=False),
        sa.Column("parent", sa.LargeBinary(), nullable=True),
        sa.Column("parent_lineage", sa.LargeBinary(), nullable=True),
        sa.Column("token_id", sa.String(length=16), nullable=True),
        sa.Column("address", sa.String(length=64), nullable=True),
        sa.Column("endpoints", sa.Text(), nullable=False),
        sa.Column("lifetime_s", sa.Integer(), nullable=False),
        sa.Column("issued_at", _BIG, nullable=False),
        sa.Column("not_before", _BIG, nullable=False),
        sa.Column("not_after", _BIG, nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("spki_digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("activated_at", _BIG, nullable=True),
        sa.Column("activated_by", sa.String(length=16), nullable=True),
        sa.Column("revoked_at", _BIG, nullable=True),
        sa.Column("reason", sa.String(length=24), nullable=True),
        sa.Column("packed_tbs", sa.LargeBinary(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=True),
        sa.Column("reserved", sa.LargeBinary(), nullable=True),
        sa.PrimaryKeyConstraint("serial"),
    )


def _create_revocations() -> None:
    op.create_table(
        "revocations",
        sa.Column("n", _BIG, autoincrement=True, nullable=False),
        sa.Column("serial", sa.LargeBinary(), nullable=False),
        sa.Column("shard", sa.Integer(), nullable=False),
        sa.Column("revoked_at", _BIG, nullable=False),
        sa.Column("reason", sa.String(length=24), nullable=False),
        sa.Column("not_after", _BIG, nullable=False),
        sa.Column("crl_entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("n"),
        sa.UniqueConstraint("serial"),
        sqlite_autoincrement=True,
    )
