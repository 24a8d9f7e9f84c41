"""The bootstrap document: parsed whole, or refused with the member named and no token repeated."""

from __future__ import annotations

import copy
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from certmgr.bootstrap import MAX_DOCUMENT_BYTES, load_bootstrap, parse_bootstrap
from ostiary.errors import BadInput, Misconfigured
from ostiary.ledger.checkpoint import KeyType, verifier_key
from tests.support.fake_ca import FakeCA

FAKE = FakeCA(address=("127.0.0.1", 8443))
DOCUMENT = FAKE.bootstrap()


def parse(document: dict[str, Any]) -> Any:
    return parse_bootstrap(json.dumps(document).encode())


def test_a_complete_document_is_parsed() -> None:
    found = parse(DOCUMENT)
    assert (found.ca.host, found.ca.port) == ("127.0.0.1", 8443)
    assert found.root == FAKE.authority.root
    assert found.manager.subsystem == "certificate-manager"
    assert found.controller.token.reveal() == DOCUMENT["tokens"]["node-controller"]["token"]
    assert found.ledgers[0].origin == "shop.example/ca"
    assert found.root_pem.decode() == DOCUMENT["root"]
    assert DOCUMENT["tokens"]["node-controller"]["token"] not in repr(found)


def test_it_comes_from_a_file_or_from_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = json.dumps(DOCUMENT).encode()
    (tmp_path / "b.json").write_bytes(text)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert load_bootstrap("-").manager == load_bootstrap(str(tmp_path / "b.json")).manager
    with pytest.raises(Misconfigured):
        load_bootstrap(str(tmp_path / "nowhere"))


def test_a_ledger_may_lack_a_checkpoint_and_a_service_may_be_absent() -> None:
    document = copy.deepcopy(DOCUMENT)
    document["ledgers"][0]["checkpoint"] = ""
    document["credentials"] = {"url": "https://127.0.0.1:9443"}
    assert parse(document).ledgers[0].note is None
    assert parse(document | {"ledgers": []}).ledgers == ()


def _set(*path: str | int, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: Any) -> None:
        for step in path[:-1]:
            document = document[step]
        document[path[-1]] = value

    return change


MANAGER_TOKEN = DOCUMENT["tokens"]["certificate-manager"]["token"]
OTHER_KEY = str(verifier_key("other.example/ca", FAKE.log_key, KeyType.LOG))
SAME_NAME = str(verifier_key("shop.example/ca", FakeCA().log_key, KeyType.LOG))


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (_set("version", value=2), "version"),
        (_set("surplus", value=1), "surplus"),
        (_set("application", value="Shop"), "application"),
        (_set("node", value="n1"), "node"),
        (_set("ca", "url", value="http://127.0.0.1:1"), "ca.url"),
        (_set("ca", "url", value="https://127.0.0.1"), "ca.url"),
        (_set("ca", "url", value="https://127.0.0.1:99999"), "ca.url"),
        (_set("ca", "url", value="https://127.0.0.1:1/x"), "ca.url"),
        (_set("root", value="hello"), "root"),
        (_set("root", value=DOCUMENT["root"] * 2), "root"),
        (_set("tokens", "node-controller", "agent", value="x"), "tokens.node-controller.agent"),
        (
            _set("tokens", "node-controller", "token", value=MANAGER_TOKEN[:-1] + "!"),
            "tokens.node-controller.token",
        ),
        (
            _set(
                "tokens", "node-controller", "agent", value=DOCUMENT["tokens"]["certificate-manager"]["agent"]
            ),
            "tokens",
        ),
        (_set("ledgers", 0, "vkey", value="x"), "ledgers[0].verifier key"),
        (_set("ledgers", 0, "vkey", value=OTHER_KEY), "ledgers[0].checkpoint"),
        (_set("ledgers", 0, "vkey", value=SAME_NAME), "ledgers[0].checkpoint"),
        (_set("ledgers", 0, "origin", value="shop.example/credentials"), "ledgers[0].origin"),
    ],
)
def test_one_wrong_member_is_named(change: Callable[[dict[str, Any]], None], field: str) -> None:
    document = copy.deepcopy(DOCUMENT)
    change(document)
    with pytest.raises(BadInput) as caught:
        parse(document)
    assert caught.value.field == field
    assert MANAGER_TOKEN[25:60] not in caught.value.message


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"{}", b" " * (MAX_DOCUMENT_BYTES + 1)])
def test_malformed_documents_are_refused(content: bytes) -> None:
    with pytest.raises(BadInput):
        parse_bootstrap(content)


def test_a_root_that_is_not_self_signed_is_refused() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    issuing = FAKE.authority.issuing.public_bytes(Encoding.PEM).decode()
    with pytest.raises(BadInput) as caught:
        parse(DOCUMENT | {"root": issuing})
    assert caught.value.field == "root"
