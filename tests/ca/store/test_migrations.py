"""From one release to the next: a store of an earlier revision, with what a CA of that release wrote into
it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from sqlalchemy import ColumnElement, Engine, Select, column, insert, inspect, select, table, text
from sqlalchemy.exc import IntegrityError

from ca.store.certificate_columns import read_certificates
from ca.store.rows import CertificateRow, CRLRow, TokenRow
from ca.store.tables import CERTIFICATES, CRLS, LEDGER, METADATA, REVOCATIONS, TOKENS
from ca.store.tbs_packing import Templates
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.ledger_terms import term_digest
from ostiary.store.migrate import upgrade
from tests.support.postgres import postgresql

TOKEN: dict[str, Any] = {
    "token_id": "abcdefghijklmnop",
    "digest": b"\x05" * 32,
    "subsystem": "component-harness",
    "node": "n1.nodes.shop.example",
    "agent": "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10",
    "capabilities": "",
    "endpoints": "",
    "lifetime_s": 7200,
    "expires_at": 1_795_000_600,
    "address": "",
    "spki_digest": b"",
    "bootstrap": False,
    "created_at": 1_795_000_000,
    "created_by": "root",
    "status": "open",
    "spent_at": 0,
    "spent_serial": "",
    "contested": False,
}
SPENT = TOKEN | {
    "token_id": "bcdefghijklmnopq",
    "address": "192.0.2.1:7443",
    "spki_digest": b"\x00" * 32,
    "status": "spent",
    "spent_at": 1_795_000_001,
    "spent_serial": "1f",
}
CERTIFICATE: dict[str, Any] = {
    "serial": "1f",
    "lineage": "1f",
    "generation": 1,
    "status": "pending",
    "stopped": False,
    "bootstrap": True,
    "deadline": 1_795_000_601,
    "subsystem": "component-harness",
    "node": "n1.nodes.shop.example",
    "agent": "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10",
    "capabilities": "",
    "granted": "",
    "ceiling": None,
    "depth": 0,
    "parent": "",
    "parent_lineage": "",
    "token_id": "",
    "address": "",
    "endpoints": "",
    "lifetime_s": 7200,
    "issued_at": 1_795_000_001,
    "not_before": 1_794_999_941,
    "not_after": 1_795_007_201,
    "shard": 1,
    "spki_digest": b"\x07" * 32,
    "activated_at": 0,
    "activated_by": "",
    "revoked_at": 0,
    "reason": "",
    "tbs": b"tbs",
    "signature": None,
}
REVOKED = CERTIFICATE | {
    "serial": "20",
    "lineage": "20",
    "status": "revoked",
    "deadline": None,
    "ceiling": "",
    "depth": 1,
    "parent": "1f",
    "parent_lineage": "1f",
    "token_id": "bcdefghijklmnopq",
    "address": "192.0.2.1:7443",
    "activated_at": 1_795_000_002,
    "activated_by": "dial-back",
    "revoked_at": 1_795_000_003,
    "reason": "keyCompromise",
    "signature": b"signature",
}
SPAWNED = REVOKED | {
    "serial": "5f",
    "lineage": "20",
    "generation": 2,
    "status": "active",
    "parent": "1e",
    "agent": "somebody else",
    "token_id": "",
    "revoked_at": 0,
    "reason": "",
}
"""The next generation, whose parent was not the first of its lineage; and an agent of another spelling."""
ODD = SPAWNED | {"serial": "abc", "lineage": "ABC", "parent": "", "parent_lineage": ""}
REVOCATION = {
    "n": 7,
    "serial": "20",
    "shard": 1,
    "revoked_at": 1_795_000_003,
    "reason": "keyCompromise",
    "not_after": 1_795_007_201,
    "crl_entry": b"entry",
}
NEW_LIST: dict[str, Any] = {
    "shard": 1,
    "number": 0,
    "signed_number": 0,
    "through": 0,
    "this_update": 0,
    "refresh_at": 0,
    "der": None,
}
SIGNED_LIST = NEW_LIST | {"shard": -1, "number": 2, "signed_number": 2, "this_update": 5, "der": b"list"}
WITHOUT = {
    "tokens": ("address", "spki_digest", "spent_at", "spent_serial"),
    "certificates": (
        "parent",
        "parent_lineage",
        "token_id",
        "address",
        "activated_at",
        "activated_by",
        "revoked_at",
        "reason",
    ),
    "crls": ("this_update",),
}
"""The columns in which releases before 0003 had a value that stood for none."""


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """An empty store of each kind."""
    if request.param == "sqlite":
        made = open_for_writing(sqlite_url(tmp_path / "store.sqlite"))
        yield made
        made.dispose()
        return
    with postgresql() as url:
        made = open_for_writing(url)
        yield made
        made.dispose()


def upgrade_to(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", "ca:store/migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def write(engine: Engine, name: str, *rows: dict[str, Any]) -> None:
    """Insert rows as they are, without what the tables of this release believe."""
    with engine.begin() as tx:
        for row in rows:
            tx.execute(insert(table(name, *map(column, row))).values(row))


def without_empty(name: str, row: dict[str, Any]) -> dict[str, Any]:
    """What 0003 makes of the values that stood for none."""
    return {
        key: None if key in WITHOUT[name] and value in {"", b"", 0} else value for key, value in row.items()
    }


def without_value(name: str, row: dict[str, Any]) -> dict[str, Any]:
    return row | dict.fromkeys(WITHOUT[name])


@pytest.fixture
def old(engine: Engine) -> Engine:
    """A store of revision 0002 with rows of every kind."""
    upgrade_to(engine, "0002")
    write(engine, "tokens", TOKEN, SPENT)
    write(engine, "certificates", CERTIFICATE, REVOKED, SPAWNED, ODD)
    write(engine, "revocations", REVOCATION, REVOCATION | {"n": 9, "serial": "abc"})
    write(engine, "ledger_index", {"term": "serial:1f", "seq": 0}, {"term": "agent:a", "seq": 3})
    write(engine, "crls", NEW_LIST, SIGNED_LIST)
    return engine


def test_every_revision_leads_to_what_the_code_believes(old: Engine) -> None:
    upgrade(old, migrations="ca.store.migrations")
    with old.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []


def test_what_stood_for_no_value_is_null_and_every_value_stays(old: Engine) -> None:
    upgrade(old, migrations="ca.store.migrations")
    with old.begin() as tx:
        tokens = [
            TokenRow(**row) for row in tx.execute(select(TOKENS).order_by(TOKENS.c.token_id)).mappings()
        ]
        certificates = read_certificates(tx, select(CERTIFICATES), Templates())
        names = ("shard", "number", "through", "this_update", "refresh_at")
        lists = [
            CRLRow(**row)
            for row in tx.execute(
                select(*(CRLS.c[n] for n in names)).order_by(CRLS.c.shard.desc())
            ).mappings()
        ]
    assert tokens == [TokenRow(**without_value("tokens", TOKEN)), TokenRow(**SPENT)]
    expected = [CERTIFICATE, *(REVOKED, SPAWNED, ODD)]
    expected = [row if row is REVOKED else without_empty("certificates", row) for row in expected]
    assert sorted(certificates, key=lambda row: row.serial) == [CertificateRow(**row) for row in expected]
    assert [each.this_update for each in lists] == [None, 5]
    assert [each.number for each in lists] == [0, 2]


def test_the_rest_may_still_not_be_null(old: Engine) -> None:
    upgrade(old, migrations="ca.store.migrations")
    row = {name: value for name, value in without_value("certificates", CERTIFICATE).items() if name != "tbs"}
    row |= {"serial": b"\x21", "lineage": None, "agent": b"agent", "packed_tbs": b"tbs"}
    with pytest.raises(IntegrityError):
        write(old, "certificates", row | {"not_after": None})
    write(old, "certificates", row)


def test_serial_numbers_and_agents_become_octets_and_a_first_certificate_names_no_lineage(
    old: Engine,
) -> None:
    upgrade(old, migrations="ca.store.migrations")
    names = ("serial", "lineage", "agent", "parent", "parent_lineage", "reserved")
    columns: list[ColumnElement[Any]] = [column(name) for name in names]
    raw: Select[Any] = select(*columns).select_from(table("certificates")).order_by(column("serial"))
    with old.begin() as tx:
        found = [tuple(row) for row in tx.execute(raw)]
    agent = bytes.fromhex(CERTIFICATE["agent"].replace("-", ""))
    as_it_is = bytes(20)
    assert found == [
        (as_it_is + b"abc", as_it_is + b"ABC", as_it_is + b"somebody else", None, None, None),
        (b"\x1f", None, agent, None, None, None),
        (b"\x20", None, agent, None, b"\x1f", None),
        (b"\x5f", b"\x20", as_it_is + b"somebody else", b"\x1e", b"\x1f", None),
    ]


def test_the_feed_stays_and_goes_on_behind_its_last_number(old: Engine) -> None:
    upgrade(old, migrations="ca.store.migrations")
    with old.begin() as tx:
        found = [dict(row) for row in tx.execute(select(REVOCATIONS).order_by("n")).mappings()]
    assert found == [REVOCATION, REVOCATION | {"n": 9, "serial": "abc"}]
    if old.dialect.name == "sqlite":  # PostgreSQL's sequence is not touched
        write(old, "revocations", {k: v for k, v in REVOCATION.items() if k != "n"} | {"serial": b"\x33"})
        with old.begin() as tx:
            assert tx.execute(select(REVOCATIONS.c.n).where(REVOCATIONS.c.serial == "33")).scalar_one() == 10


def test_entries_are_found_by_the_digests_of_their_terms(old: Engine) -> None:
    upgrade(old, migrations="ca.store.migrations")
    with old.begin() as tx:
        found = {tuple(row) for row in tx.execute(select(LEDGER.index))}
    assert found == {(term_digest("serial:1f"), 0), (term_digest("agent:a"), 3)}


def test_the_index_of_lineages_has_the_later_generations_only(old: Engine) -> None:
    upgrade(old, migrations="ca.store.migrations")
    with old.begin() as tx:
        indexes = {each["name"]: each for each in inspect(tx).get_indexes("certificates")}
    where = indexes["certificates_by_lineage"]["dialect_options"][f"{old.dialect.name}_where"]
    assert "lineage IS NOT NULL" in str(where)
    assert sorted(map(str, indexes)) == [
        f"certificates_by_{name}" for name in ("agent", "deadline", "lineage", "node", "parent", "time")
    ]


def test_a_failed_upgrade_leaves_the_store_as_it_was(old: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_arguments: object) -> None:
        raise RuntimeError("the disk is full")

    with old.begin() as tx:
        before = inspect(tx).get_columns("certificates")
    with monkeypatch.context() as patched:
        # The last statement of the upgrade: Alembic notes the new revision.
        patched.setattr("alembic.runtime.migration.HeadMaintainer.update_to_step", fail)
        with pytest.raises(RuntimeError):
            upgrade(old, migrations="ca.store.migrations")
    with old.begin() as tx:
        after = inspect(tx).get_columns("certificates")
        assert [(each["name"], each["nullable"]) for each in after] == [
            (each["name"], each["nullable"]) for each in before
        ]
        assert tx.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "0002"
        assert tx.execute(text("SELECT parent FROM certificates WHERE serial = '1f'")).scalar_one() == ""
    upgrade(old, migrations="ca.store.migrations")
