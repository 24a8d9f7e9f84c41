"""`ostiary policy`: what the service answers is shown, and `explain` decides as the front would."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from credsvc.policy.schema import build_schema
from ostiary.cli.root import run
from tests.support.credentials_front import AWS, LIBRARY, POLICY
from tests.support.operator_verbs import OperatorVerbs, answer_verbs

EXPLAIN = (
    "policy",
    "explain",
    "billing-aws",
    "sign",
    "--subsystem",
    "component",
    "--node",
    "n1.shop.example",
)
CONTEXT = {
    "method": "GET",
    "host": "b.s3.amazonaws.com",
    "path": "/",
    "region": "eu-north-1",
    "service": "s3",
    "payload": "UNSIGNED-PAYLOAD",
}


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch) -> OperatorVerbs:
    schema = build_schema([AWS.manifest])
    return answer_verbs(
        monkeypatch,
        policy_show={"policy": POLICY, "schema": schema.text, "guessable": sorted(schema.guessable)},
        policy_set={"rules": ["a", "b"], "entry": 7},
        policy_validate={"rules": ["a"], "policy": "digest-of-it"},
        credential_show={"module": "aws-sigv4", "owner": "component", "labels": ["billing"]},
        module_show={"manifest": (LIBRARY / "aws-sigv4" / "manifest.toml").read_text()},
    )


def _explain(capsys: pytest.CaptureFixture[str], *more: str, **changed: str) -> tuple[int, dict[str, Any]]:
    pairs = [f"--context={name}={value}" for name, value in {**CONTEXT, **changed}.items()]
    code = run(["--json", *EXPLAIN, *more, *pairs])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.usefixtures("verbs")
def test_a_permit_is_named_and_the_code_is_0(capsys: pytest.CaptureFixture[str]) -> None:
    told = {"allowed": True, "rule": "components-read-billing", "reason": ""}
    assert _explain(capsys) == (0, told)


@pytest.mark.usefixtures("verbs")
@pytest.mark.parametrize(
    ("more", "changed", "rule"),
    [
        ((), {"method": "PUT"}, "default-deny"),
        (("--capability", "ledger:read"), {}, "use-needs-capability"),
    ],
)
def test_a_refusal_is_named_and_the_code_is_1(
    capsys: pytest.CaptureFixture[str], more: tuple[str, ...], changed: dict[str, str], rule: str
) -> None:
    code, told = _explain(capsys, *more, **changed)
    assert (code, told["allowed"], told["rule"]) == (1, False, rule)
    assert told["reason"]


@pytest.mark.usefixtures("verbs")
def test_an_operation_that_the_module_lacks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    argv = [*EXPLAIN[:3], "nope", *EXPLAIN[4:]]
    assert run(["--json", *argv]) == 1
    assert "no operation 'nope'" in capsys.readouterr().err


def test_set_and_validate_send_the_file(
    tmp_path: Path, verbs: OperatorVerbs, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.cedar").write_text(POLICY)
    assert run(["policy", "validate", str(tmp_path / "p.cedar")]) == 0
    assert run(["policy", "set", str(tmp_path / "p.cedar")]) == 0
    assert verbs.asked == [("policy.validate", {"policy": POLICY}), ("policy.set", {"policy": POLICY})]
    shown = capsys.readouterr().out
    assert "valid: 1 rules, digest digest-of-it" in shown
    assert "active: 2 rules, recorded as entry 7" in shown


@pytest.mark.usefixtures("verbs")
def test_show_has_policy_or_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["policy", "show"]) == 0
    assert "components-read-billing" in capsys.readouterr().out
    assert run(["policy", "show", "--schema"]) == 0
    assert "entity SubSystem" in capsys.readouterr().out
