"""`ostiary sign`: which identity it takes, and what it refuses before it connects anywhere."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest

from ostiary.cli.root import run
from tests.support.descriptors import descriptor_with
from tests.support.pki import Root

SIGN = ("sign", "grid", "sign", "--url", "https://127.0.0.1:1")
AGENT = "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[str, ...]:
    """The arguments of an identity that loads: key and chain on a descriptor, the root in a file."""
    root = Root()
    (tmp_path / "ca.pem").write_bytes(root.pem)
    return ("--bundle", descriptor_with(root.leaf("agent").identity_pem), "--root", str(tmp_path / "ca.pem"))


def give(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    """Put the content on standard input."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))


@pytest.mark.parametrize("options", [(), ("--claim",), ("--bundle",)])
def test_exactly_one_identity_is_wanted(options: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    identity = [each for option in options for each in (option, descriptor_with(b"secret"))]
    more = ["--agent", AGENT] if options else []
    assert run([*SIGN, *more, *identity]) == 2
    assert "give one of --agent, --claim and --bundle" in capsys.readouterr().err


def test_a_bundle_needs_its_root(bundle: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SIGN, *bundle[:2]]) == 2
    assert "--bundle needs --root FILE" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (b"{" + b" " * (256 * 1024) + b"}", "more than 262144 bytes"),
        (b"[1]", "object"),
        (b"{", ""),
    ],
    ids=["too long", "no object", "no JSON"],
)
def test_a_request_that_cannot_be_sent_is_refused_before_anything_connects(
    bundle: tuple[str, ...],
    request_: bytes,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError("it connected")

    monkeypatch.setattr("socket.create_connection", fail)
    give(monkeypatch, request_)
    assert run([*SIGN, *bundle]) == 1
    assert told in capsys.readouterr().err


def test_an_address_that_is_none_is_named(
    bundle: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, b"{}")
    assert run([*SIGN, *bundle, "--address", "nowhere"]) == 1
    assert "address" in capsys.readouterr().err
