"""What a credentials service records: decisions on rows as they stand, also within one batch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import Connection, Engine, select

from credsvc.items import DeleteCredential, DisableCredential
from credsvc.store.tables import CREDENTIALS, MODULES
from ostiary.work.item import Item
from ostiary.work.reports import Alarm, Refusals, Refuse
from tests.support.credential_decisions import (
    APPROVE,
    F2,
    M1,
    M2,
    OPERATOR,
    PEER,
    POLICY,
    PROPOSE,
    PUT,
    RECORDING,
    SEALED,
    USE,
    decide,
    make_ready,
    rules,
    settle,
    store_at,
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = store_at(tmp_path)
    yield made
    made.dispose()


@pytest.fixture
def ready(engine: Engine) -> Iterator[Connection]:
    with engine.begin() as tx:
        make_ready(tx)
        yield tx


def test_a_use_takes_the_sealed_credential_along_and_keeps_its_salt(ready: Connection) -> None:
    (ruling,) = decide(ready, USE)
    assert (ruling.verdict.decision, ruling.attachment) == ("authorized", SEALED)
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


def test_of_two_puts_in_one_turn_one_is_authorized(ready: Connection) -> None:
    rotation = msgspec.structs.replace(PUT, version=2)
    assert rules(decide(ready, rotation, rotation)) == ["authorized", "stale-credential"]


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
        assert RECORDING.documents(tx) == []
        (ruling,) = decide(tx, APPROVE)
        assert ruling.attachment == b"manifest"
        settle(tx, APPROVE)
        assert [document.manifest for document in RECORDING.documents(tx)] == [b"manifest"]
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
