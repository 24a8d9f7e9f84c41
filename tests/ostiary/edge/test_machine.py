"""Probes change nothing and always answer; every row of the table is complete."""

from __future__ import annotations

import platform

import pytest

from ostiary.edge import machine
from ostiary.edge.machine import ABILITIES, Ability, Level, examine


@pytest.mark.parametrize("ability", ABILITIES, ids=lambda ability: ability.name)
def test_every_probe_answers_the_same_twice(ability: Ability) -> None:
    first = examine(ability)
    assert first.seen
    assert examine(ability) == first


@pytest.mark.parametrize(
    ("release", "level"),
    [
        ("6.1.0-37-amd64", Level.REDUCED),
        ("6.12.0", Level.FULL),
        ("7.0-rc1", Level.FULL),
        ("5.15.0+", Level.REDUCED),
    ],
)
def test_the_kernel_is_full_from_6_12(release: str, level: Level, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "release", lambda: release)
    assert machine._kernel().level is level


def test_a_probe_that_fails_is_an_ability_that_is_missing() -> None:
    def broken() -> machine.Finding:
        raise PermissionError(13, "not for you")

    found = examine(Ability(name="x", needed_for="y", without=None, probe=broken))
    assert found.level is Level.MISSING
    assert "not for you" in found.seen
