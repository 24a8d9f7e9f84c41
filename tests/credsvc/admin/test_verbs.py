"""The operators' verbs over a store: what they show of what was recorded, and what they refuse
before it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest
from sqlalchemy import Connection, Engine

from credsvc.admin.verbs import make_verbs
from credsvc.config import Config
from credsvc.home import MIGRATIONS
from credsvc.items import DeleteCredential
from ostiary.errors import BadInput, NotFound
from ostiary.names import parse_application, parse_node
from ostiary.recorder.batch import ask
from ostiary.recorder.client import RecorderClient
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade
from tests.support.credential_decisions import (
    APPROVE,
    F2,
    M1,
    M2,
    NOW_MS,
    OPERATOR,
    PROPOSE,
    PUT,
    RECORDING,
    decide,
    settle,
)
from tests.support.credentials_front import LIBRARY

CONFIG = Config(
    application=parse_application("shop.example"),
    node=parse_node("credentials.nodes.shop.example"),
    kek="file:kek",
    ca_url="https://ca.shop.example",
    manager_socket="/run/manager",
)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = open_for_writing(sqlite_url(tmp_path / "store.sqlite"))
    upgrade(made, migrations=MIGRATIONS)
    yield made
    made.dispose()


def told(engine: Engine, verb: str, **arguments: Any) -> Any:
    """What a verb that only reads answers."""
    verbs = make_verbs(CONFIG, cast("RecorderClient", None), engine)
    return verbs[verb](OPERATOR, arguments)


def record(engine: Engine, act: Callable[[Connection], object]) -> None:
    with engine.begin() as tx:
        act(tx)


def test_a_module_is_shown_as_proposed_last_with_what_is_in_use(engine: Engine) -> None:
    with pytest.raises(NotFound):
        told(engine, "module.show", name="gogrid")
    record(engine, lambda tx: decide(tx, PROPOSE))
    assert told(engine, "module.show", name="gogrid")["active_module_digest"] is None
    record(engine, lambda tx: settle(tx, APPROVE))
    second = msgspec.structs.replace(
        PROPOSE, module_digest=M2, manifest_digest=F2, manifest=b"second", source=b"other"
    )
    record(engine, lambda tx: RECORDING.decide(tx, [ask(second)], now_ms=NOW_MS + 1))
    shown = told(engine, "module.show", name="gogrid")
    assert (shown["state"], shown["module_digest"], shown["active_module_digest"]) == ("proposed", M2, M1)


def test_a_deleted_credential_is_not_shown(engine: Engine) -> None:
    record(engine, lambda tx: decide(tx, PROPOSE))
    record(engine, lambda tx: settle(tx, APPROVE))
    record(engine, lambda tx: settle(tx, PUT, b"sealed"))
    assert [row["name"] for row in told(engine, "credential.list")] == ["grid"]
    record(engine, lambda tx: decide(tx, DeleteCredential(operator=OPERATOR, credential="grid")))
    assert told(engine, "credential.list") == []
    with pytest.raises(NotFound):
        told(engine, "credential.show", name="grid")


def test_code_that_is_no_text_is_not_proposed(engine: Engine) -> None:
    manifest = (LIBRARY / "gogrid" / "manifest.toml").read_bytes()
    with pytest.raises(BadInput) as refused:
        told(engine, "module.propose", manifest=manifest, source=b"\xff")
    assert refused.value.field == "source"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("ledger.entries", {"first": 1 << 70}),
        ("ledger.find", {"terms": ["credential:grid"], "first": 1 << 63}),
        ("ledger.prove", {"index": 1 << 64}),
        ("ledger.tile", {"level": 0, "index": -1, "width": 1}),
        ("ledger.tile", {"level": 0, "index": 1 << 60, "width": 1}),
    ],
)
def test_a_number_that_no_ledger_has_is_named(engine: Engine, verb: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(BadInput) as refused:
        told(engine, verb, **arguments)
    assert refused.value.field in {"first", "index"}
