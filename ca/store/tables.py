"""The tables of a CA's store, as SQLAlchemy knows them; `ca/store/migrations` makes them.

    tokens         one row per enrollment token: the digest of its secret, what it buys, what became of it
    certificates   one row per certificate: its lineage and generation, what it says, its state,
                   its to-be-signed bytes (packed) and signature
    tbs_templates  by which those bytes are packed (ca/store/tbs_packing.py)
    revocations    the feed: n grows by one per revocation; the CRL entry ready in DER
    shards         how many certificates a CRL shard has
    crls           the newest list of each shard (-1: the complete one)
    ledger_*       ostiary.store.ledger_tables

Rules:
- Every question that a request asks has an index; nothing that grows is scanned.
- Times are whole seconds since the epoch (`EpochSeconds`). Serial numbers and agents' UUIDs are text here and
  octets in the store (ca/store/columns.py). Lists of names are sorted and joined by spaces.
- What each certificate has is kept in few bytes: 10^6 of them are a day of a busy application.
- NULL says that there is no value; a column whose value comes later, or never, is nullable.
- The recorder writes; front, status, responder and admin read; the keyholder never does. What lies here is
  public to the roles, and none of it is a secret.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Index, Integer, LargeBinary, MetaData, String, Table, Text

from ca.store.columns import AgentUUID, SerialNumber
from ostiary.store.ledger_tables import define_ledger_tables

METADATA: Final = MetaData()
# SQLite makes a rowid alias only of INTEGER PRIMARY KEY.
_BIG: Final = BigInteger().with_variant(Integer(), "sqlite")

LEDGER: Final = define_ledger_tables(METADATA)

TOKENS: Final = Table(
    "tokens",
    METADATA,
    Column("token_id", String(16), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False),
    Column("subsystem", String(64), nullable=False),
    Column("node", String(64), nullable=False),
    Column("agent", String(36), nullable=False),
    Column("capabilities", Text, nullable=False),
    Column("endpoints", Text, nullable=False),
    Column("lifetime_s", Integer, nullable=False),
    Column("expires_at", _BIG, nullable=False),
    # IP address, for bootstrap tokens with the port of the dial-back; NULL: from anywhere
    Column("address", String(64), nullable=True),
    Column("spki_digest", LargeBinary(32), nullable=True),  # NULL: for any key
    Column("bootstrap", Boolean, nullable=False),
    Column("created_at", _BIG, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("status", String(8), nullable=False),  # open, spent, void
    Column("spent_at", _BIG, nullable=True),
    Column("spent_serial", String(40), nullable=True),
    # an alarm was written: one per token, however often it is tried
    Column("contested", Boolean, nullable=False),
)
Index("tokens_by_time", TOKENS.c.created_at)
Index("tokens_by_node", TOKENS.c.node, TOKENS.c.subsystem, TOKENS.c.status)

CERTIFICATES: Final = Table(
    "certificates",
    METADATA,
    Column("serial", SerialNumber, primary_key=True),
    # serial number of its lineage's first certificate; NULL: it is that one itself
    Column("lineage", SerialNumber, nullable=True),
    Column("generation", Integer, nullable=False),
    Column("status", String(10), nullable=False),  # pending, active, superseded, revoked
    # a clone was seen: nothing of this lineage renews or spawns any more
    Column("stopped", Boolean, nullable=False),
    Column("bootstrap", Boolean, nullable=False),  # pending because of a bootstrap token
    Column("deadline", _BIG, nullable=True),  # of a pending one
    Column("subsystem", String(64), nullable=False),
    Column("node", String(64), nullable=False),
    Column("agent", AgentUUID, nullable=False),
    Column("capabilities", Text, nullable=False),  # what it carries
    Column("granted", Text, nullable=False),  # what its lineage may carry at most
    Column("ceiling", Text, nullable=True),  # what its ancestors leave to its descendants; NULL: it has none
    Column("depth", Integer, nullable=False),
    # serial number of the spawner's certificate; NULL: it was the first one of its lineage, or there is none
    Column("parent", SerialNumber, nullable=True),
    Column("parent_lineage", SerialNumber, nullable=True),
    Column("token_id", String(16), nullable=True),
    Column("address", String(64), nullable=True),
    Column("endpoints", Text, nullable=False),
    Column("lifetime_s", Integer, nullable=False),
    Column("issued_at", _BIG, nullable=False),
    Column("not_before", _BIG, nullable=False),
    Column("not_after", _BIG, nullable=False),
    Column("shard", Integer, nullable=False),
    Column("spki_digest", LargeBinary(32), nullable=False),
    Column("activated_at", _BIG, nullable=True),
    Column("activated_by", String(16), nullable=True),  # issue, dial-back, operator, used, self
    Column("revoked_at", _BIG, nullable=True),
    Column("reason", String(24), nullable=True),
    Column("packed_tbs", LargeBinary, nullable=False),
    Column("signature", LargeBinary, nullable=True),
    # Until the signature is there, as many octets as it will have: SQLite would divide the page of a row that
    # grows, and leave both halves partly empty.
    Column("reserved", LargeBinary, nullable=True),
)
_C = CERTIFICATES.c
# Questions of the present are about what has not expired; the past of an old lineage is long. Most lineages
# have one certificate, which is found by its serial number: the index leaves it out.
_IS_LATER = _C.lineage.is_not(None)
Index(
    "certificates_by_lineage",
    _C.lineage,
    _C.not_after,
    sqlite_where=_IS_LATER,
    postgresql_where=_IS_LATER,
)
# Few certificates have a parent: an index that leaves out the others costs their issuance nothing.
_HAS_PARENT = _C.parent_lineage.is_not(None)
Index(
    "certificates_by_parent",
    _C.parent_lineage,
    _C.not_after,
    sqlite_where=_HAS_PARENT,
    postgresql_where=_HAS_PARENT,
)
Index("certificates_by_node", _C.node, _C.subsystem, _C.not_after)
Index("certificates_by_agent", _C.agent, _C.not_after)
Index("certificates_by_time", _C.issued_at)
_HAS_DEADLINE = _C.deadline.is_not(None)
Index(
    "certificates_by_deadline",
    _C.deadline,
    sqlite_where=_HAS_DEADLINE,
    postgresql_where=_HAS_DEADLINE,
)

TBS_TEMPLATES: Final = Table(
    "tbs_templates",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("subsystem", String(64), primary_key=True),
    Column("tbs", LargeBinary, nullable=False),
)

# Read by n: the status front and every receiver ask for what is new since the step that they know.
REVOCATIONS: Final = Table(
    "revocations",
    METADATA,
    Column("n", _BIG, primary_key=True, autoincrement=True),
    Column("serial", SerialNumber, nullable=False, unique=True),
    Column("shard", Integer, nullable=False),
    Column("revoked_at", _BIG, nullable=False),
    Column("reason", String(24), nullable=False),
    Column("not_after", _BIG, nullable=False),  # of the certificate: a day later it leaves the lists
    Column("crl_entry", LargeBinary, nullable=False),
    sqlite_autoincrement=True,  # a number is never given twice
)
Index("revocations_by_shard", REVOCATIONS.c.shard, REVOCATIONS.c.n)

# Numbers grow from 1; the newest is the open one. A shard is dropped whole when all in it has expired.
SHARDS: Final = Table(
    "shards",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("opened_at", _BIG, nullable=False),
    Column("count", Integer, nullable=False),
    Column("last_not_after", _BIG, nullable=False),
)

# `number` may be ahead of `signed_number`: the list is recorded before the keyholder signs it.
CRLS: Final = Table(
    "crls",
    METADATA,
    Column("shard", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, nullable=False),  # of the newest list that was recorded
    Column("signed_number", Integer, nullable=False),  # of the list in `der`
    Column("through", _BIG, nullable=False),  # the feed's n up to which `number` goes
    Column("this_update", _BIG, nullable=True),
    Column("refresh_at", _BIG, nullable=False),
    Column("der", LargeBinary, nullable=True),
)
Index("crls_by_refresh", CRLS.c.refresh_at)
