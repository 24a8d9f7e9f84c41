"""`ostiary credsvc init`: what it is told, by a bootstrap document or by options, and what it makes."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest

from ostiary.cli.root import run
from ostiary.edge.passphrase import unwrap
from tests.support.descriptors import descriptor_with
from tests.support.pki import Root

PASSPHRASE = "correct horse battery staple"
DOCUMENT = {
    "application": "shop.example",
    "ca": {"url": "https://ca.nodes.shop.example:8443", "more": 1},
    "node": "n1.nodes.shop.example",
    "tokens": ["not read"],
}


@pytest.fixture
def init(tmp_path: Path) -> list[str]:
    """A command line that lacks nothing but what a bootstrap document says."""
    (tmp_path / "root.pem").write_bytes(Root().pem)
    document = {**DOCUMENT, "root": (tmp_path / "root.pem").read_text()}
    (tmp_path / "bootstrap.json").write_text(json.dumps(document))
    passphrase = descriptor_with(PASSPHRASE.encode())
    return [
        *("--home", str(tmp_path), "--json", "credsvc", "init", "--manager-socket", "/run/manager"),
        *("--approver-key", str(tmp_path / "approver.key"), "--passphrase", passphrase),
    ]


def config_of(home: Path) -> dict[str, Any]:
    return tomllib.loads((home / "credsvc" / "config.toml").read_text())


def test_a_bootstrap_document_says_what_options_need_not(
    init: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*init, "--ca-bootstrap", str(tmp_path / "bootstrap.json")]) == 0
    config = config_of(tmp_path)
    assert (config["application"], config["node"]) == ("shop.example", "n1.nodes.shop.example")
    assert config["ca_url"] == DOCUMENT["ca"]["url"]  # type: ignore[index]
    made = json.loads(capsys.readouterr().out)
    assert made["origin"] == "shop.example/credentials"
    assert made["vkey"].startswith("shop.example/credentials+")
    wrapped = (tmp_path / "approver.key").read_bytes()
    assert len(unwrap(wrapped, PASSPHRASE, application="shop.example", service="approver")) == 32


def test_an_option_wins_over_the_document(init: list[str], tmp_path: Path) -> None:
    more = ("--ca-bootstrap", str(tmp_path / "bootstrap.json"), "--node", "n2.nodes.shop.example")
    assert run([*init, *more]) == 0
    assert config_of(tmp_path)["node"] == "n2.nodes.shop.example"


def test_without_a_document_the_missing_options_are_named(
    init: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*init, "--application", "shop.example", "--root", str(tmp_path / "root.pem")]) == 2
    assert "also give --node, --ca-url" in capsys.readouterr().err
    assert not (tmp_path / "approver.key").exists()


@pytest.mark.parametrize("text", ["{", '{"application": "shop.example"}', "[]"])
def test_what_is_no_bootstrap_document_is_refused(
    text: str, init: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bootstrap.json").write_text(text)
    assert run([*init, "--ca-bootstrap", str(tmp_path / "bootstrap.json")]) == 1
    assert "is not a bootstrap document" in capsys.readouterr().err


@pytest.mark.parametrize(("option", "value"), [("--application", "Shop"), ("--node", "no node")])
def test_a_name_that_is_none_is_refused(option: str, value: str, init: list[str], tmp_path: Path) -> None:
    assert run([*init, "--ca-bootstrap", str(tmp_path / "bootstrap.json"), option, value]) == 1
    assert not (tmp_path / "credsvc" / "config.toml").exists()
