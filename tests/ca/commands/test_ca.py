"""`ostiary ca`: what each command asks the admin process for, and what it prints."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ca.commands import ca as commands
from ca.home import CAHome
from ostiary.cli.root import run
from ostiary.edge.home import ServiceHome

DOCUMENT: dict[str, Any] = {"application": "shop.example", "ledgers": [{"origin": "shop.example/ca"}]}
ANSWERS: dict[str, Any] = {
    "token.create": {"id": "t1", "token": "ost_t1_secret", "expires_at": 1},
    "token.list": [{"id": "t1", "subsystem": "component", "node": "n1", "status": "open"}],
    "token.revoke": {"id": "t1", "status": "void"},
    "bootstrap": DOCUMENT,
    "confirm": {"serial_number": "1f", "status": "active"},
    "certificate.list": [{"serial_number": "1f", "status": "active"}],
    "certificate.show": {"serial_number": "1f"},
    "certificate.revoke": {"serial_number": "1f"},
}


class AdminForTests:
    """An admin process that notes what it was asked and answers from a table."""

    calls: list[tuple[str, dict[str, Any]]] = []  # noqa: RUF012 - emptied by each test

    def __init__(self, _socket: Path, *, service: str) -> None:
        self.service = service

    def call(self, verb: str, **arguments: Any) -> Any:
        self.calls.append((verb, arguments))
        answer = ANSWERS[verb]
        return json.loads(json.dumps(answer))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    AdminForTests.calls.clear()
    monkeypatch.setattr(commands, "AdminClient", AdminForTests)
    return AdminForTests.calls


def ostiary(tmp_path: Path, *arguments: str) -> int:
    return run(["--home", str(tmp_path), "ca", *arguments])


NO_TOKEN = {"endpoints": [], "capabilities": [], "address": "", "agent": "", "ttl_s": 600}


@pytest.mark.parametrize(
    ("arguments", "call"),
    [
        (
            "token create --subsystem component --node n1 --capability a:b --capability c:d",
            (
                "token.create",
                NO_TOKEN | {"subsystem": "component", "node": "n1", "capabilities": ["a:b", "c:d"]},
            ),
        ),
        ("token list --limit 7", ("token.list", {"limit": 7})),
        ("token revoke t1", ("token.revoke", {"id": "t1"})),
        (
            "bootstrap --node n1 --address 192.0.2.1:7443 --again --ttl 2h",
            ("bootstrap", {"node": "n1", "address": "192.0.2.1:7443", "again": True, "ttl_s": 7200}),
        ),
        ("confirm n1 AB:CD", ("confirm", {"node": "n1", "fingerprint": "AB:CD"})),
        (
            "certificate list --status pending --node n1",
            (
                "certificate.list",
                {"subsystem": "", "node": "n1", "agent": "", "status": "pending", "limit": 100},
            ),
        ),
        ("certificate show 1f", ("certificate.show", {"serial": "1f"})),
        (
            "certificate revoke 1f --reason keyCompromise",
            ("certificate.revoke", {"serial": "1f", "reason": "keyCompromise"}),
        ),
    ],
)
def test_a_command_is_one_question_to_the_admin_process(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path, arguments: str, call: tuple[str, dict[str, Any]]
) -> None:
    assert ostiary(tmp_path, *arguments.split()) == 0
    assert asked == [call]


def test_a_token_is_printed_alone_so_that_it_can_be_piped(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ostiary(tmp_path, "token", "create", "--subsystem", "component", "--node", "n1") == 0
    assert capsys.readouterr().out == "ost_t1_secret\n"
    assert asked


def test_a_request_goes_along_in_base64(asked: list[tuple[str, dict[str, Any]]], tmp_path: Path) -> None:
    csr = tmp_path / "request.der"
    csr.write_bytes(b"\x30\x00")
    assert ostiary(tmp_path, *f"token create --subsystem s --node n1 --csr {csr}".split()) == 0
    assert asked[0][1]["csr"] == base64.b64encode(b"\x30\x00").decode()


def test_a_bootstrap_document_names_the_credentials_ledger_of_the_same_home(
    asked: list[tuple[str, dict[str, Any]]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    public = ServiceHome(tmp_path / "credsvc").public
    public.mkdir(parents=True)
    (public / "ledger.vkey").write_text("shop.example/credentials+1+AA\n")
    assert ostiary(tmp_path, "bootstrap", "--node", "n1", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["ledgers"][1] == {
        "origin": "shop.example/credentials",
        "vkey": "shop.example/credentials+1+AA",
        "checkpoint": "",
    }
    assert len(asked) == 1


def test_init_makes_a_ca_that_cacerts_shows_and_a_second_one_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    init = ["init", "--application", "shop.example", "--node-domain", "nodes.shop.example"]
    assert ostiary(tmp_path, "cacerts") == 1
    assert "ostiary ca init" in capsys.readouterr().err
    assert ostiary(tmp_path, *init) == 0
    assert "whoever copies the whole home has the keys" in capsys.readouterr().err
    assert ostiary(tmp_path, "cacerts") == 0
    home = CAHome.at(tmp_path / "ca")
    assert capsys.readouterr().out.count("BEGIN CERTIFICATE") == 2
    assert home.config().node == "ca.shop.example"
    assert ostiary(tmp_path, *init) == 1


def test_wrong_usage_is_two(tmp_path: Path) -> None:
    assert ostiary(tmp_path, "certificate", "revoke", "1f", "--reason", "boredom") == 2
    assert ostiary(tmp_path, "token", "create") == 2
