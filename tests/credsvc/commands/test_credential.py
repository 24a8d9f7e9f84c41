"""`ostiary credential`: a secret leaves only as an envelope for the service's own intake key."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from credsvc.intake import EnvelopePlace, open_envelope
from credsvc.intake_document import publish_intake
from ostiary.cli.root import run
from ostiary.errors import Forbidden
from ostiary.ledger.note import KeyType, verifier_key
from tests.support.operator_verbs import OperatorVerbs, answer_verbs

APPLICATION = "shop.example"
LEDGER = Ed25519PrivateKey.from_private_bytes(b"\x01" * 32)
INTAKE = X25519PrivateKey.from_private_bytes(b"\x02" * 32)
SECRET = "marked-secret-9f27"
SHOWN = {
    "name": "grid",
    "module": "gogrid",
    "owner": "component",
    "labels": ["billing"],
    "shareable": {"api_key": "old"},
    "ceiling": {"formula": ["query"]},
    "disabled": True,
}


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of a service of which only the public files are there."""
    public = tmp_path / "credsvc" / "public"
    public.mkdir(parents=True)
    vkey = verifier_key(f"{APPLICATION}/credentials", LEDGER, KeyType.LOG)
    (public / "ledger.vkey").write_text(f"{vkey}\n")
    (public / "intake.json").write_bytes(publish_intake(APPLICATION, INTAKE, LEDGER))
    return tmp_path


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> OperatorVerbs:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(SECRET.encode())))
    return answer_verbs(
        monkeypatch, credential_put={"name": "grid", "version": 2, "entry": 9}, credential_show=SHOWN
    )


def _opened(verbs: OperatorVerbs, field: str = "shared_secret") -> bytes:
    place = EnvelopePlace(application=APPLICATION, credential="grid", module="gogrid", field=field)
    verb, arguments = verbs.asked[-1]
    assert verb == "credential.put"
    return open_envelope(arguments["envelopes"][field], place, INTAKE).reveal()


PUT = ("credential", "put", "grid", "--module", "gogrid", "--owner", "component", "--secret", "shared_secret")


def test_a_put_encrypts_the_secret_for_its_place(
    home: Path, verbs: OperatorVerbs, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = [
        *PUT,
        "--field",
        "api_key=k=1",
        "--ceiling",
        "formula=a",
        "--ceiling",
        "formula=b",
        "--label",
        "x",
    ]
    assert run(["--home", str(home), *argv]) == 0
    assert _opened(verbs) == SECRET.encode()
    arguments = verbs.asked[-1][1]
    assert arguments["shareable"] == {"api_key": "k=1"}
    assert arguments["ceiling"] == {"formula": ["a", "b"]}
    assert (arguments["module"], arguments["owner"], arguments["labels"]) == ("gogrid", "component", ("x",))
    told = capsys.readouterr()
    assert SECRET not in told.out + told.err + repr(verbs.asked)
    assert "version 2, recorded as entry 9" in told.out


def test_a_secret_on_the_command_line_is_a_usage_error_and_not_repeated(
    home: Path, verbs: OperatorVerbs, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["--home", str(home), *PUT[:-1], f"shared_secret={SECRET}"]) == 2
    assert SECRET not in capsys.readouterr().err
    assert verbs.asked == []


def test_a_secret_field_given_twice_is_a_usage_error(home: Path, verbs: OperatorVerbs) -> None:
    assert run(["--home", str(home), *PUT, "--secret", "shared_secret"]) == 2
    assert verbs.asked == []


def test_an_intake_key_that_the_ledger_key_did_not_sign_gets_no_secret(
    home: Path, verbs: OperatorVerbs, capsys: pytest.CaptureFixture[str]
) -> None:
    thief = Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)
    forged = publish_intake(APPLICATION, X25519PrivateKey.generate(), thief)
    (home / "credsvc" / "public" / "intake.json").write_bytes(forged)
    assert run(["--home", str(home), "--json", *PUT]) == 1
    assert json.loads(capsys.readouterr().err)["rule"] == "intake-signature"
    assert verbs.asked == []


def test_a_rotation_keeps_all_but_what_is_given(home: Path, verbs: OperatorVerbs) -> None:
    argv = ["credential", "rotate", "grid", "--secret", "shared_secret", "--field", "api_key=new"]
    assert run(["--home", str(home), *argv]) == 0
    assert [verb for verb, _ in verbs.asked] == ["credential.show", "credential.put"]
    arguments = verbs.asked[-1][1]
    assert arguments["shareable"] == {"api_key": "new"}
    assert {key: arguments[key] for key in ("module", "owner", "labels", "ceiling")} == {
        key: SHOWN[key] for key in ("module", "owner", "labels", "ceiling")
    }
    assert _opened(verbs) == SECRET.encode()


@pytest.mark.parametrize("verb", ["disable", "delete"])
def test_disable_and_delete_name_the_credential(
    verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    verbs = answer_verbs(monkeypatch, **{f"credential_{verb}": {"entry": 4}})
    assert run(["credential", verb, "grid"]) == 0
    assert verbs.asked == [(f"credential.{verb}", {"name": "grid"})]
    assert f"grid: {verb}d, recorded as entry 4" in capsys.readouterr().out


def test_a_refusal_of_the_service_is_told_with_its_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer_verbs(monkeypatch, credential_show=Forbidden("not here", rule="operator-group"))
    assert run(["--json", "credential", "show", "grid"]) == 1
    assert json.loads(capsys.readouterr().err)["rule"] == "operator-group"


def test_a_list_has_a_row_for_each_credential(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [{**SHOWN, "version": 1}, {**SHOWN, "name": "other", "version": 2, "disabled": False}]
    answer_verbs(monkeypatch, credential_list=rows)
    assert run(["credential", "list"]) == 0
    shown = capsys.readouterr().out
    assert [line.split()[0] for line in shown.splitlines() if "gogrid" in line] == ["grid", "other"]
    assert shown.count("disabled") == 2
