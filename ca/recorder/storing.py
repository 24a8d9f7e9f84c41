"""A batch's rows from the store and back: a few SELECTs by key before the decisions, a few multi-row
statements after them.

Rules:
- It reads the rows that the batch's items name, each by index, and a compromised key's descendants level by
  level.
- It writes only what changed. Of a certificate only its state changes; what the certificate says never does.
- The first certificate of its sub-system in a shard leaves the template by which the others are packed
  (ca/store/tbs_packing.py).
- The transaction and its lock are the recorder's.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Table, bindparam, insert, or_, select, update

from ca.items import Activate, ConfirmNode, ExpirePending, MintToken, Prepared, Renew, Retire, Revoke, Spawn
from ca.store.certificate_columns import certificates_of, columns_of
from ca.store.rows import CertificateRow, CRLRow, RevocationRow, Rows, ShardRow, TokenRow
from ca.store.tables import CERTIFICATES, CRLS, REVOCATIONS, SHARDS, TBS_TEMPLATES, TOKENS
from ca.store.tbs_packing import Key, Templates
from ostiary.store.statement import Statement
from ostiary.timestamp import EpochSeconds
from ostiary.work.item import Item

AnyRow = TokenRow | ShardRow | CRLRow | RevocationRow

_CERTIFICATE_STATE: Final = (
    "status",
    "stopped",
    "deadline",
    "activated_at",
    "activated_by",
    "revoked_at",
    "reason",
)
_OF_A_LINEAGE: Final = (Renew, Activate, ConfirmNode, ExpirePending, Retire, Revoke)
_MAX_KEYS: Final = 1024
"""Of one statement, far below what SQLite (32,766) and PostgreSQL (65,535) take; a compromised key's
descendants may be more.
"""
_TOKEN_STATE: Final = ("status", "spent_at", "spent_serial", "contested")


def _valid_by(*columns: ColumnElement[str]) -> Statement:
    # Not expired: an old agent's lineage may have thousands of expired certificates, and no decision asks for
    # them.
    named = or_(*(column.in_(bindparam("names", expanding=True)) for column in columns))
    return Statement(select(CERTIFICATES).where(named, CERTIFICATES.c.not_after >= bindparam("now")))


def _state_of(table: Table, key: str, columns: Iterable[str]) -> Statement:
    changed: dict[str, Any] = {name: bindparam(f"v_{name}") for name in columns}
    return Statement(update(table).where(table.c[key] == bindparam("k")).values(changed))


# What every issuance, renewal and revocation executes.
_TOKENS: Final = Statement(select(TOKENS).where(TOKENS.c.token_id.in_(bindparam("ids", expanding=True))))
_BY_SERIAL: Final = Statement(
    select(CERTIFICATES).where(CERTIFICATES.c.serial.in_(bindparam("serials", expanding=True)))
)
_VALID_BY_AGENT: Final = _valid_by(CERTIFICATES.c.agent)
# A lineage is named after its first certificate, whose own column is NULL.
_VALID_BY_LINEAGE: Final = _valid_by(CERTIFICATES.c.lineage, CERTIFICATES.c.serial)
_VALID_BY_PARENT: Final = _valid_by(CERTIFICATES.c.parent_lineage)
_NEWEST_SHARDS: Final = Statement(select(SHARDS).order_by(SHARDS.c.number.desc()).limit(2))
_SET_SHARD: Final = Statement(
    update(SHARDS)
    .where(SHARDS.c.number == bindparam("n"))
    .values(opened_at=bindparam("o"), count=bindparam("c"), last_not_after=bindparam("l"))
)
_SET_TOKEN: Final = _state_of(TOKENS, "token_id", _TOKEN_STATE)
_SET_CERTIFICATE: Final = _state_of(CERTIFICATES, "serial", _CERTIFICATE_STATE)
_INSERTS: Final = {
    # A revocation's number is the store's to give.
    table: Statement(insert(table).values({c.name: bindparam(c.name) for c in table.c if c.name != "n"}))
    for table in (TOKENS, CERTIFICATES, TBS_TEMPLATES, REVOCATIONS, SHARDS)
}


@dataclass(slots=True)
class _Keys:
    """What a batch's items name."""

    tokens: set[str] = field(default_factory=set)
    serials: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)
    whole_lineages: set[str] = field(default_factory=set)  # serials whose lineage is concerned
    compromised: set[str] = field(default_factory=set)  # serials whose descendants are concerned
    nodes: set[tuple[str, str]] = field(default_factory=set)
    templates: set[Key] = field(default_factory=set)


def load(tx: Connection, items: Sequence[Item], templates: Templates, *, now_s: EpochSeconds) -> Rows:
    """Read what these items concern."""
    keys = _Keys()
    for item in items:
        _collect(keys, item)
    # Those of the certificates that may be made, to be remembered while this turn has added none.
    templates.read(tx, keys.templates)
    loading = _Loading(tx=tx, rows=Rows(now_s=now_s), templates=templates)
    rows = loading.rows
    if keys.tokens:
        _take_tokens(rows, _TOKENS.fetch(tx, {"ids": list(keys.tokens)}))
    # What a spent token bought decides whether its key comes again.
    keys.serials |= {row.spent_serial for row in rows.tokens.values() if row.spent_serial is not None}
    if keys.serials:
        loading.take(_BY_SERIAL.fetch(tx, {"serials": list(keys.serials)}))
    loading.take_valid(_VALID_BY_AGENT, keys.agents)
    lineages = {rows.certificates[s].lineage for s in keys.whole_lineages if s in rows.certificates}
    loading.take_valid(_VALID_BY_LINEAGE, lineages)
    loading.take_descendants(
        {rows.certificates[s].lineage for s in keys.compromised if s in rows.certificates}
    )
    for node, subsystem in keys.nodes:
        loading.take_node(node, subsystem)
    _load_shards(tx, rows)
    return rows


def _collect(keys: _Keys, item: Item) -> None:
    """Note the keys that one item names; all items name a token or certificate in fields of the same name."""
    # The serial number of a certificate that is to be made is asked for, too: it must not be there.
    keys.tokens |= _named(item, "token_id")
    keys.serials |= _named(item, "serial")
    certificate = getattr(item, "certificate", None)
    if isinstance(certificate, Prepared):
        keys.serials.add(certificate.serial)
        keys.templates.add((certificate.shard, certificate.subsystem))
    if isinstance(item, _OF_A_LINEAGE):
        keys.whole_lineages.add(item.serial)
    if isinstance(item, Retire | Revoke) and item.reason == "keyCompromise":
        keys.compromised.add(item.serial)
    if isinstance(item, Retire):
        keys.serials.add(item.by.serial)
    if isinstance(item, Spawn):
        keys.serials |= {item.manager.serial, item.spawner}
        keys.agents.add(item.certificate.agent)
    if isinstance(item, MintToken) and (item.bootstrap or item.again):
        keys.nodes.add((item.node, item.subsystem))


def _named(value: object, name: str) -> set[str]:
    found = getattr(value, name, None)
    return {found} if isinstance(found, str) else set()


def _take_tokens(rows: Rows, found: Iterable[Any]) -> None:
    for each in found:
        row = TokenRow(**each)
        # Not replaced: a token that an earlier SELECT of this turn found is the same row.
        rows.tokens.setdefault(row.token_id, row)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Loading:
    """Certificates on their way from the store into a turn's rows."""

    tx: Connection
    rows: Rows
    templates: Templates

    def take(self, found: Sequence[Mapping[Any, Any]]) -> list[CertificateRow]:
        taken = certificates_of(self.tx, found, self.templates)
        for row in taken:
            if row.serial not in self.rows.certificates:
                self.rows.load_certificate(row)
        return taken

    def take_valid(self, by: Statement, names: Iterable[str]) -> list[CertificateRow]:
        wanted = list(names)
        found: list[CertificateRow] = []
        for at in range(0, len(wanted), _MAX_KEYS):
            keys = {"names": wanted[at : at + _MAX_KEYS], "now": self.rows.now_s}
            found += self.take(by.fetch(self.tx, keys))
        return found

    def take_descendants(self, lineages: set[str]) -> None:
        # `seen` ends the walk even if rows were to name each other in a circle.
        seen: set[str] = set()
        level = lineages
        while level:
            seen |= level
            children = self.take_valid(_VALID_BY_PARENT, sorted(level))
            level = {child.lineage for child in children} - seen

    def take_node(self, node: str, subsystem: str) -> None:
        of_node = (CERTIFICATES.c.node == node) & (CERTIFICATES.c.subsystem == subsystem)
        valid = select(CERTIFICATES).where(of_node, CERTIFICATES.c.not_after >= self.rows.now_s)
        self.take(self.tx.execute(valid).mappings().all())
        open_ones = (TOKENS.c.node == node) & (TOKENS.c.subsystem == subsystem) & (TOKENS.c.status == "open")
        _take_tokens(self.rows, self.tx.execute(select(TOKENS).where(open_ones)).mappings())


def _load_shards(tx: Connection, rows: Rows) -> None:
    """The newest two: certificates are put into no other (`ca.recorder.issuing`)."""
    for found in _NEWEST_SHARDS.fetch(tx, {}):
        row = ShardRow(**found)
        rows.shards[row.number] = row


def store(tx: Connection, rows: Rows, templates: Templates) -> None:
    """Write what changed."""
    _insert(tx, TOKENS, [rows.tokens[key] for key in sorted(rows.new_tokens)])
    changed_tokens = [rows.tokens[key] for key in sorted(rows.changed_tokens - rows.new_tokens)]
    _update(tx, _SET_TOKEN, "token_id", _TOKEN_STATE, changed_tokens)
    new = [rows.certificates[key] for key in sorted(rows.new_certificates)]
    _insert_certificates(tx, new, templates)
    changed = [rows.certificates[key] for key in sorted(rows.changed_certificates - rows.new_certificates)]
    _update(tx, _SET_CERTIFICATE, "serial", _CERTIFICATE_STATE, changed)
    _insert(tx, REVOCATIONS, rows.revocations)
    _store_shards(tx, rows)


def _store_shards(tx: Connection, rows: Rows) -> None:
    # Sorted, like all that is written here: the same batch makes the same statements.
    for number in sorted(rows.changed_shards):
        row = rows.shards[number]
        values = {"n": number, "o": row.opened_at, "c": row.count, "l": row.last_not_after}
        if not _SET_SHARD.run(tx, values):
            _insert(tx, SHARDS, [row])
    for shard in sorted(rows.changed_crls):
        store_crl(tx, rows.crls[shard])


def store_crl(tx: Connection, row: CRLRow) -> None:
    """Record that a list will be signed, or that a shard needs its first one."""
    values = {name: getattr(row, name) for name in ("number", "through", "this_update", "refresh_at")}
    if not tx.execute(update(CRLS).where(CRLS.c.shard == row.shard).values(values)).rowcount:
        tx.execute(insert(CRLS).values(shard=row.shard, signed_number=0, der=None, **values))


def _insert_certificates(tx: Connection, rows: Sequence[CertificateRow], templates: Templates) -> None:
    if not rows:
        return
    known = templates.look_up(tx, {(row.shard, row.subsystem) for row in rows})
    columns = []
    for row in rows:
        key = row.shard, row.subsystem
        if key not in known:
            known[key] = row.tbs
            template = {"shard": row.shard, "subsystem": row.subsystem, "tbs": row.tbs}
            _INSERTS[TBS_TEMPLATES].run_each(tx, [template])
        columns.append(columns_of(row, known[key]))
    _INSERTS[CERTIFICATES].run_each(tx, columns)


def _insert(tx: Connection, table: Table, rows: Sequence[AnyRow]) -> None:
    if rows:
        columns = [each.name for each in fields(rows[0])]
        values = attrgetter(*columns)
        _INSERTS[table].run_each(tx, [dict(zip(columns, values(row), strict=True)) for row in rows])


def _update(
    tx: Connection,
    statement: Statement,
    key: str,
    columns: Sequence[str],
    rows: Sequence[TokenRow | CertificateRow],
) -> None:
    if rows:
        changed = [
            {"k": getattr(row, key)} | {f"v_{name}": getattr(row, name) for name in columns} for row in rows
        ]
        statement.run_each(tx, changed)
