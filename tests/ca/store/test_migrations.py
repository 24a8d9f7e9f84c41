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
from sqlalchemy import Engine, column, insert, inspect, select, table, text
from sqlalchemy.exc import IntegrityError

from ca.store.rows import CertificateRow, CRLRow, TokenRow
from ca.store.tables import CERTIFICATES, CRLS, METADATA, TOKENS
from ostiary.store.database import open_for_writing, sqlite_url
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


def without_value(name: str, row: dict[str, Any]) -> dict[str, Any]:
    return row | dict.fromkeys(WITHOUT[name])


@pytest.fixture
def old(engine: Engine) -> Engine:
    """A store of revision 0002 with rows of every kind."""
    upgrade_to(engine, "0002")
    write(engine, "tokens", TOKEN, SPENT)
    write(engine, "certificates", CERTIFICATE, REVOKED)
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
        found = tx.execute(select(CERTIFICATES).order_by(CERTIFICATES.c.serial)).mappings()
        certificates = [CertificateRow(**row) for row in found]
        names = ("shard", "number", "through", "this_update", "refresh_at")
        lists = [
            CRLRow(**row)
            for row in tx.execute(
                select(*(CRLS.c[n] for n in names)).order_by(CRLS.c.shard.desc())
            ).mappings()
        ]
    assert tokens == [TokenRow(**without_value("tokens", TOKEN)), TokenRow(**SPENT)]
    assert certificates == [
        CertificateRow(**without_value("certificates", CERTIFICATE)),
        CertificateRow(**REVOKED),
    ]
    assert [each.this_update for each in lists] == [None, 5]
    assert [each.number for each in lists] == [0, 2]


def test_the_rest_may_still_not_be_null(old: Engine) -> None:
    upgrade(old, migrations="ca.store.migrations")
    with pytest.raises(IntegrityError):
        write(old, "certificates", CERTIFICATE | {"serial": "21", "not_after": None})
    write(old, "certificates", without_value("certificates", CERTIFICATE) | {"serial": "21"})


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
