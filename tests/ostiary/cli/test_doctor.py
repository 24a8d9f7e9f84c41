"""`ostiary doctor` reports this machine's abilities and fails only if nothing replaces what is missing."""

from __future__ import annotations

import json

import pytest

from ostiary.cli import doctor, root
from ostiary.edge.machine import Ability, Finding, Level


def _table(level: Level, without: str | None) -> tuple[Ability, ...]:
    found = Finding(level=level, seen="looked")
    return (Ability(name="thing", needed_for="all of it", without=without, probe=lambda: found),)


def test_json_rows_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    code = root.run(["doctor", "--json"])
    told = json.loads(capsys.readouterr().out)
    assert code == (0 if told["usable"] else 1)
    names = {row["name"] for row in told["abilities"]}
    assert {
        "Landlock",
        "seccomp",
        "user namespaces",
        "key retention",
        "request-key",
        "FUSE",
        "SO_PEERPIDFD",
    } <= names
    assert all(set(row) == {"name", "level", "seen", "needed_for", "without"} for row in told["abilities"])


@pytest.mark.parametrize(
    ("level", "without", "code", "shown"),
    [
        (Level.FULL, None, 0, "ok (looked)"),
        (Level.REDUCED, "the other thing", 0, "instead: the other thing"),
        (Level.MISSING, "the other thing", 0, "instead: the other thing"),
        (Level.MISSING, None, 1, "instead: nothing"),
    ],
)
def test_only_what_nothing_replaces_fails(
    level: Level,
    without: str | None,
    code: int,
    shown: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "ABILITIES", _table(level, without))
    assert root.run(["doctor"]) == code
    assert shown in capsys.readouterr().out
