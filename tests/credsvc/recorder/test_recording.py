"""What a credentials service records: decisions on rows as they stand, also within one batch."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, select

from credsvc.home import MIGRATIONS
from credsvc.items import (
    ApproveModule,
    DeleteCredential,
    DisableCredential,
    ProposeModule,
    PutCredential,
    SetPolicy,
    Use,
)
from credsvc.recorder.recording import CredentialRecording
from credsvc.store.tables import CREDENTIALS, METADATA, MODULES
from ostiary.recorder.batch import ask
from ostiary.recorder.service import Ruling, Settled
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade
from ostiary.work.item import Item, Operator, Peer
from ostiary.work.reports import Alarm, Refusals, Refuse

OPERATOR = Operator(uid=0, name="root")
PEER = Peer(serial="0a", subsystem="component", node="n1.nodes.shop.example", agent="a1")
NOW_MS = 1_800_000_000_000
SERVICE = CredentialRecording("shop.example")

M1, F1, P1 = (hashlib.sha256(content).hexdigest() for content in (b"code", b"manifest", b""))
M2, F2 = (hashlib.sha256(content).hexdigest() for content in (b"other", b"second"))

PROPOSE = ProposeModule(
    operator=OPERATOR,
    module="gogrid",
    module_digest=M1,
    manifest_digest=F1,
    manifest=b"manifest",
    source=b"code",
)
APPROVE = ApproveModule(
    operator=OPERATOR,
    module="gogrid",
    module_digest=M1,
    manifest_digest=F1,
    approved_at=1,
    signature=b"\x01" * 64,
)
PUT = PutCredential(
    operator=OPERATOR,
    credential="grid",
    version=1,
    module="gogrid",
    manifest_digest=F1,
    owner="component",
    labels=("billing",),
    shareable={"api_key": "foo"},
    ceiling={"host": ("api.gogrid.com",)},
    envelopes={"shared_secret": b"sealed by the client"},
)
POLICY = SetPolicy(operator=OPERATOR, policy_digest=P1, policy="")
USE = Use(
    peer=PEER,
    credential="grid",
    version=1,
    operation="sign",
    module="gogrid",
    module_digest=M1,
    manifest_digest=F1,
    formula="query",
    holes={"t": 1},
    salt=b"\x02" * 16,
    rule="r1",
    policy_digest=P1,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    url = sqlite_url(tmp_path / "store.sqlite")
    made = open_for_writing(url)
    upgrade(made, migrations=MIGRATIONS)
    yield made
    made.dispose()


def decide(tx: Connection, *items: Item) -> list[Ruling]:
    return SERVICE.decide(tx, [ask(item) for item in items], now_ms=NOW_MS)


def rules(rulings: list[Ruling]) -> list[str]:
    return [ruling.verdict.rule or "authorized" for ruling in rulings]


def settle(tx: Connection, item: Item, output: bytes = b"") -> None:
    SERVICE.settle(tx, [Settled(item=item, index=0, output=output)])


@pytest.fixture
def ready(engine: Engine) -> Iterator[Connection]:
    """A store with an approved module, a policy and a sealed credential."""
    with engine.begin() as tx:
        assert rules(decide(tx, PROPOSE, APPROVE, POLICY)) == ["authorized"] * 3
        settle(tx, APPROVE)
        assert rules(decide(tx, PUT)) == ["authorized"]
        settle(tx, PUT, b"sealed by the keyholder")
        yield tx


def test_the_migration_makes_the_tables_of_the_metadata(engine: Engine) -> None:
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_a_use_takes_the_sealed_credential_along_and_keeps_its_salt(ready: Connection) -> None:
    (ruling,) = decide(ready, USE)
    assert (ruling.verdict.decision, ruling.attachment) == ("authorized", b"sealed by the keyholder")
    assert ruling.salt == USE.salt


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"credential": "other"}, "credential-unknown"),
        ({"version": 2}, "stale-credential"),
        ({"module_digest": M2}, "stale-module"),
        ({"manifest_digest": F2}, "stale-module"),
        ({"module": "aws-sigv4"}, "stale-module"),
        ({"policy_digest": "p0"}, "stale-policy"),
    ],
)
def test_a_use_of_anything_but_what_stands_is_denied(
    ready: Connection, change: dict[str, object], rule: str
) -> None:
    (ruling,) = decide(ready, msgspec.structs.replace(USE, **change))
    assert ruling.verdict.rule == rule
    assert ruling.attachment is None


def test_a_use_behind_a_disable_in_the_same_batch_is_denied(ready: Connection) -> None:
    disable = DisableCredential(operator=OPERATOR, credential="grid")
    assert rules(decide(ready, USE, disable, USE)) == ["authorized", "authorized", "credential-disabled"]
    assert rules(decide(ready, USE)) == ["credential-disabled"]


def test_a_deleted_credential_is_gone_with_its_sealed_secret(ready: Connection) -> None:
    delete = DeleteCredential(operator=OPERATOR, credential="grid")
    assert rules(decide(ready, delete, USE, delete)) == [
        "authorized",
        "credential-unknown",
        "credential-unknown",
    ]
    (left,) = ready.execute(select(CREDENTIALS)).mappings()
    assert (left["version"], left["sealed"], left["owner"], left["shareable"]) == (2, None, "", {})


def test_a_name_that_was_deleted_goes_on_with_another_version(ready: Connection) -> None:
    decide(ready, DeleteCredential(operator=OPERATOR, credential="grid"))
    again = msgspec.structs.replace(PUT, version=3, module="gogrid")
    assert rules(decide(ready, PUT, again)) == ["stale-credential", "authorized"]
    settle(ready, again, b"another seal")
    assert rules(decide(ready, USE, msgspec.structs.replace(USE, version=3))) == [
        "stale-credential",
        "authorized",
    ]


@pytest.mark.parametrize(
    ("overtaking", "rule"),
    [
        (DisableCredential(operator=OPERATOR, credential="grid"), "credential-disabled"),
        (DeleteCredential(operator=OPERATOR, credential="grid"), "credential-unknown"),
    ],
    ids=["disabled", "deleted"],
)
def test_a_put_on_its_way_does_not_undo_what_came_behind_it(
    ready: Connection, overtaking: Item, rule: str
) -> None:
    rotation = msgspec.structs.replace(PUT, version=2)
    assert rules(decide(ready, rotation, overtaking)) == ["authorized", "authorized"]
    settle(ready, rotation, b"new seal")
    assert rules(decide(ready, USE, msgspec.structs.replace(USE, version=2))) == [rule, rule]


def test_of_two_puts_in_one_turn_one_is_authorized(ready: Connection) -> None:
    rotation = msgspec.structs.replace(PUT, version=2)
    assert rules(decide(ready, rotation, rotation)) == ["authorized", "stale-credential"]


def test_of_two_puts_on_their_way_the_first_is_stored(ready: Connection) -> None:
    rotation = msgspec.structs.replace(PUT, version=2)
    decide(ready, rotation)
    decide(ready, rotation)
    settle(ready, rotation, b"first")
    settle(ready, rotation, b"second")
    (ruling,) = decide(ready, msgspec.structs.replace(USE, version=2))
    assert ruling.attachment == b"first"


@pytest.mark.parametrize(
    ("item", "rule"),
    [
        (msgspec.structs.replace(PROPOSE, source=b"other code"), "module-digest"),
        (msgspec.structs.replace(PROPOSE, manifest=b"other"), "module-digest"),
        (msgspec.structs.replace(POLICY, policy="permit(principal, action, resource);"), "policy-digest"),
    ],
    ids=["code", "manifest", "policy"],
)
def test_a_digest_that_is_not_of_what_comes_with_it_is_denied(engine: Engine, item: Item, rule: str) -> None:
    with engine.begin() as tx:
        assert rules(decide(tx, item)) == [rule]
        assert tx.execute(select(MODULES)).first() is None


def test_a_credential_serves_only_once_it_is_sealed(engine: Engine) -> None:
    with engine.begin() as tx:
        decide(tx, PROPOSE, APPROVE, POLICY)
        settle(tx, APPROVE)
        assert rules(decide(tx, PUT, USE)) == ["authorized", "credential-unknown"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"version": 1}, "stale-credential"),
        ({"version": 3}, "stale-credential"),
        ({"version": 2, "module": "aws-sigv4"}, "credential-module"),
        ({"version": 2, "manifest_digest": F2}, "module-not-active"),
        ({"credential": "new", "module": "none"}, "module-not-active"),
    ],
)
def test_a_put_that_does_not_follow_is_denied(
    ready: Connection, change: dict[str, object], rule: str
) -> None:
    assert rules(decide(ready, msgspec.structs.replace(PUT, **change))) == [rule]


def test_a_rotation_keeps_the_old_version_until_the_new_one_is_sealed(ready: Connection) -> None:
    rotation = msgspec.structs.replace(PUT, version=2)
    assert rules(decide(ready, rotation, USE)) == ["authorized", "authorized"]
    settle(ready, rotation, b"new seal")
    assert rules(decide(ready, USE, msgspec.structs.replace(USE, version=2))) == [
        "stale-credential",
        "authorized",
    ]


def test_a_module_is_used_after_its_approval_only(engine: Engine) -> None:
    with engine.begin() as tx:
        assert rules(decide(tx, APPROVE)) == ["module-unknown"]
        assert rules(decide(tx, PROPOSE, PROPOSE)) == ["authorized", "module-known"]
        assert SERVICE.documents(tx) == []
        (ruling,) = decide(tx, APPROVE)
        assert ruling.attachment == b"manifest"
        settle(tx, APPROVE)
        assert [document.manifest for document in SERVICE.documents(tx)] == [b"manifest"]
        assert rules(decide(tx, APPROVE)) == ["module-active"]


def test_a_new_version_retires_the_old_one(ready: Connection) -> None:
    second = msgspec.structs.replace(
        PROPOSE, module_digest=M2, manifest_digest=F2, manifest=b"second", source=b"other"
    )
    approval = msgspec.structs.replace(APPROVE, module_digest=M2, manifest_digest=F2)
    decide(ready, second, approval)
    settle(ready, approval)
    states = dict(ready.execute(select(MODULES.c.module_digest, MODULES.c.state)).all())
    assert states == {M1: "retired", M2: "active"}
    assert rules(decide(ready, USE)) == ["stale-module"]


def test_a_refusal_of_the_front_is_recorded_as_denied(ready: Connection) -> None:
    refuse = Refuse(
        by=PEER, act="aws-sigv4/sign", target="grid", rule="default-deny", reason="no policy permits this"
    )
    counted = Refusals(source="127.0.0.1", reason="no certificate", count=3)
    assert rules(decide(ready, refuse, counted)) == ["default-deny", "authorized"]


def test_an_alarm_of_the_recorders_own_answers_nobody(ready: Connection) -> None:
    (ruling,) = decide(ready, Alarm(what="keyholder-refused", detail="entry 7: ceiling"))
    assert (ruling.verdict.decision, ruling.answers) == ("authorized", None)
