"""The tables of a credentials service's store.

    credentials   name -> the newest version: description in clear, secrets sealed by the keyholder; of
                  a deleted one the name and the version of its end, so that no version is given twice
    modules       every proposed and approved version of a credential module
    policies      every policy set that was ever active, by digest, as long as an entry names it
    actives       one row per thing of which one is active (`policy`)

A credential that waits for its seal is not here: its row comes with the seal.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table

from ostiary.store.ledger_tables import define_ledger_tables

METADATA: Final = MetaData()
LEDGER: Final = define_ledger_tables(METADATA)

CREDENTIALS: Final = Table(
    "credentials",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("module", String(64), nullable=False),
    Column("owner", String(64), nullable=False),
    Column("labels", JSON, nullable=False),
    Column("shareable", JSON, nullable=False),
    Column("ceiling", JSON, nullable=False),
    Column("disabled", Boolean, nullable=False),
    # NULL: deleted. The front never selects it.
    Column("sealed", LargeBinary, nullable=True),
    Column("changed_at_ms", BigInteger, nullable=False),
)

MODULES: Final = Table(
    "modules",
    METADATA,
    Column("name", String(64), primary_key=True),
    Column("module_digest", String(64), primary_key=True),
    Column("manifest_digest", String(64), primary_key=True),
    # As they were proposed, byte for byte: the digests are of these.
    Column("manifest", LargeBinary, nullable=False),
    Column("source", LargeBinary, nullable=False),
    Column("state", String(10), nullable=False),
    # The approval as the item that was recorded; a keyholder that starts verifies its signature again.
    Column("approval", LargeBinary, nullable=True),
    Column("changed_at_ms", BigInteger, nullable=False),
)
# "Which are active?", once a second and worker.
Index("modules_by_state", MODULES.c.state, MODULES.c.name)

POLICIES: Final = Table(
    "policies",
    METADATA,
    Column("digest", String(64), primary_key=True),
    Column("text", LargeBinary, nullable=False),
    Column("changed_at_ms", BigInteger, nullable=False),
)

ACTIVES: Final = Table(
    "actives",
    METADATA,
    Column("what", String(20), primary_key=True),
    Column("digest", String(64), nullable=False),
)
