"""`ostiary sign`: which identity it takes, and what it refuses before it connects anywhere."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from credsvc.client.signing import Signed, SigningClient
from ostiary.cli.root import run
from ostiary.errors import Forbidden, OstiaryError
from tests.support.descriptors import descriptor_with
from tests.support.pki import Root

SIGN = ("sign", "grid", "sign", "--url", "https://127.0.0.1:1")
SIGNED = Signed(release={"query.sig": "3f"}, formula="f", entry=7, rule="r")
AGENT = "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"


@pytest.fixture
def bundle(tmp_path: Path) -> tuple[str, ...]:
    """The arguments of an identity that loads: key and chain on a descriptor, the root in a file."""
    root = Root()
    (tmp_path / "ca.pem").write_bytes(root.pem)
    return ("--bundle", descriptor_with(root.leaf("agent").identity_pem), "--root", str(tmp_path / "ca.pem"))


def fail(*_: object, **__: object) -> None:
    raise AssertionError("it connected")


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
    monkeypatch.setattr("socket.create_connection", fail)
    give(monkeypatch, request_)
    assert run([*SIGN, *bundle]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("requests", "told"),
    [
        (b'{"a": 1}\n\n[2]\n', "line 3: expected `object`"),
        (b'{"a": 1}\n{', "line 2: "),
        (b"[1]", "expected `object`"),
        (b"{" + b" " * (16 << 20) + b"}", "more than 16777216 bytes"),
    ],
    ids=["a line that is no object", "a line that is no JSON", "an item that is no object", "too long"],
)
def test_a_batch_that_cannot_be_sent_is_refused_before_anything_connects(
    bundle: tuple[str, ...],
    requests: bytes,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(SigningClient, "sign_many", fail)
    give(monkeypatch, requests)
    assert run([*SIGN, *bundle, "--batch"]) == 1
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    "form", [b'[{"n": 1}, {"n": 2}]', b'{"n": 1}\r\n\n  {"n": 2}'], ids=["array", "lines"]
)
@pytest.mark.parametrize("last", [SIGNED, Forbidden("no policy permits this", rule="default-deny")])
def test_a_batch_prints_its_results_in_order_and_says_whether_one_failed(
    form: bytes,
    last: Signed | OstiaryError,
    bundle: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def sign_many(_client: SigningClient, *asked: object) -> list[Signed | OstiaryError]:
        assert asked == ("grid", "sign", [{"n": 1}, {"n": 2}])
        return [SIGNED, last]

    monkeypatch.setattr(SigningClient, "sign_many", sign_many)
    give(monkeypatch, form)
    code = run([*SIGN, *bundle, "--batch"])
    first, second = json.loads(capsys.readouterr().out)
    assert first == {"release": {"query.sig": "3f"}, "formula": "f", "entry": 7, "rule": "r"}
    if isinstance(last, Signed):
        assert (code, second) == (0, first)
    else:
        assert (code, second["problem"]["rule"]) == (1, "default-deny")


def test_a_batch_is_not_explained(bundle: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run([*SIGN, *bundle, "--batch", "--explain"]) == 2
    assert "give one of --explain and --batch" in capsys.readouterr().err


def test_an_address_that_is_none_is_named(
    bundle: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    give(monkeypatch, b"{}")
    assert run([*SIGN, *bundle, "--address", "nowhere"]) == 1
    assert "address" in capsys.readouterr().err
