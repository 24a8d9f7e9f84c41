"""The rows of a CA's store as values, and a batch's view of them.

Rules:
- A row value has exactly the columns of its table, in Python's types (a certificate's, but for four:
  ca/store/certificate_columns.py); `names` and `joined` convert lists of names, of which "" is the empty one.
- None says that there is no value. No "", no 0 and no -1 stands for one.
- `Rows` holds what a batch concerns. Decisions read and replace rows in it, so that two items for one token
  see each other; what changed is written afterwards, in as few statements as there are tables.
- Pure: loading and storing are `ca.recorder.storing`'s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from ostiary.timestamp import EpochSeconds

TokenStatus = Literal["open", "spent", "void"]
CertificateStatus = Literal["pending", "active", "superseded", "revoked"]

LIVE: Final = ("pending", "active")
"""States in which a certificate's key may act towards the CA."""


def joined(names: Iterable[str]) -> str:
    """Names as a column keeps them: sorted, joined by spaces."""
    return " ".join(sorted(names))


def names(column: str) -> frozenset[str]:
    """The names in a column."""
    return frozenset(column.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRow:
    """An enrollment token (`ca.store.tables.TOKENS`)."""

    token_id: str
    digest: bytes
    subsystem: str
    node: str
    agent: str
    capabilities: str
    endpoints: str
    lifetime_s: int
    expires_at: EpochSeconds
    address: str | None
    spki_digest: bytes | None
    bootstrap: bool
    created_at: EpochSeconds
    created_by: str
    status: TokenStatus
    spent_at: EpochSeconds | None
    spent_serial: str | None
    contested: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CertificateRow:
    """A certificate (`ca.store.tables.CERTIFICATES`)."""

    serial: str
    lineage: str
    generation: int
    status: CertificateStatus
    stopped: bool
    bootstrap: bool
    deadline: EpochSeconds | None
    subsystem: str
    node: str
    agent: str
    capabilities: str
    granted: str
    ceiling: str | None
    depth: int
    parent: str | None
    parent_lineage: str | None
    token_id: str | None
    address: str | None
    endpoints: str
    lifetime_s: int
    issued_at: EpochSeconds
    not_before: EpochSeconds
    not_after: EpochSeconds
    shard: int
    spki_digest: bytes
    activated_at: EpochSeconds | None
    activated_by: str | None
    revoked_at: EpochSeconds | None
    reason: str | None
    tbs: bytes
    signature: bytes | None

    # `lineage` is the serial number of its first certificate; `granted` what it may carry at most, `ceiling`
    # what its ancestors leave to its descendants (None: it has no ancestors).
    def is_live(self, now_s: EpochSeconds) -> bool:
        """Whether it is pending or active, and not expired."""
        return self.status in LIVE and now_s <= self.not_after


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationRow:
    """A step of the feed (`ca.store.tables.REVOCATIONS`) before the store has given it its number."""

    serial: str
    shard: int
    revoked_at: EpochSeconds
    reason: str
    not_after: EpochSeconds
    crl_entry: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardRow:
    """A CRL shard (`ca.store.tables.SHARDS`)."""

    number: int
    opened_at: EpochSeconds
    count: int
    last_not_after: EpochSeconds


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLRow:
    """The newest recorded list of a shard (`ca.store.tables.CRLS` without the list itself)."""

    # `through` is the feed's step up to which it goes, 0 before the first; `this_update` is None, and
    # `number` 0, before there is a list.

    shard: int
    number: int
    through: int
    this_update: EpochSeconds | None
    refresh_at: EpochSeconds


@dataclass(slots=True)
class Rows:
    """The rows that a batch concerns at `now_s`. Owner: the recorder's thread, for one batch."""

    now_s: EpochSeconds
    tokens: dict[str, TokenRow] = field(default_factory=dict)
    certificates: dict[str, CertificateRow] = field(default_factory=dict)
    shards: dict[int, ShardRow] = field(default_factory=dict)
    crls: dict[int, CRLRow] = field(default_factory=dict)
    revocations: list[RevocationRow] = field(default_factory=list)
    changed_tokens: set[str] = field(default_factory=set)
    changed_certificates: set[str] = field(default_factory=set)
    changed_shards: set[int] = field(default_factory=set)
    changed_crls: set[int] = field(default_factory=set)
    new_tokens: set[str] = field(default_factory=set)
    new_certificates: set[str] = field(default_factory=set)
    # Serial numbers as keys of dictionaries: sets that keep their order, so that entries come out the same
    # each time.
    _by_lineage: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    _by_parent: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    _by_agent: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))

    def add_token(self, row: TokenRow) -> None:
        """Make a token."""
        self.tokens[row.token_id] = row
        self.new_tokens.add(row.token_id)

    def replace_token(self, row: TokenRow) -> None:
        """Change a token."""
        self.tokens[row.token_id] = row
        self.changed_tokens.add(row.token_id)

    def load_certificate(self, row: CertificateRow) -> None:
        """Take a certificate from the store."""
        self.certificates[row.serial] = row
        self._by_lineage[row.lineage][row.serial] = None
        if row.parent_lineage is not None:
            self._by_parent[row.parent_lineage][row.serial] = None
        self._by_agent[row.agent][row.serial] = None

    def add_certificate(self, row: CertificateRow) -> None:
        """Make a certificate."""
        self.load_certificate(row)
        self.new_certificates.add(row.serial)

    def replace_certificate(self, row: CertificateRow) -> None:
        """Change a certificate's state."""
        self.certificates[row.serial] = row
        self.changed_certificates.add(row.serial)

    def replace_shard(self, row: ShardRow) -> None:
        """Change or open a shard."""
        self.shards[row.number] = row
        self.changed_shards.add(row.number)

    def replace_crl(self, row: CRLRow) -> None:
        """Record a shard's next list."""
        self.crls[row.shard] = row
        self.changed_crls.add(row.shard)

    def of_lineage(self, lineage: str) -> list[CertificateRow]:
        """The certificates of a lineage that are neither revoked nor expired; services still accept
        superseded ones.
        """
        return self._valid(self._by_lineage[lineage])

    def generations_of(self, lineage: str) -> list[CertificateRow]:
        """The certificates of a lineage that were loaded: those that have not expired, revoked or not."""
        return [self.certificates[serial] for serial in self._by_lineage[lineage]]

    def children_of(self, lineage: str) -> list[CertificateRow]:
        """The same for certificates whose parent belongs to a lineage."""
        return self._valid(self._by_parent[lineage])

    def of_agent(self, agent: str) -> list[CertificateRow]:
        """The same for an agent."""
        return self._valid(self._by_agent[agent])

    def of_node(self, node: str, subsystem: str) -> list[CertificateRow]:
        """The same for a sub-system on a node, as far as they were loaded."""
        # A scan, because a batch seldom has a bootstrap and then few rows (`ca.recorder.storing._load_node`).
        return [
            row for row in self._valid(self.certificates) if (row.node, row.subsystem) == (node, subsystem)
        ]

    def _valid(self, serials: Iterable[str]) -> list[CertificateRow]:
        found = (self.certificates[serial] for serial in serials)
        return [row for row in found if row.status != "revoked" and row.not_after >= self.now_s]
