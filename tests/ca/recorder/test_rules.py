"""Rules are a closed table: no error is made under a name that is not in it."""

from __future__ import annotations

import pytest

from ca.recorder.rules import RULES, forbidden


def test_an_error_has_its_rule_reason_and_field() -> None:
    error = forbidden("grant", "policy does not grant that", field="capabilities")
    assert (error.rule, error.message, error.field) == ("grant", "policy does not grant that", "capabilities")


def test_a_rule_that_is_not_in_the_table_is_a_bug() -> None:
    with pytest.raises(AssertionError, match="fingerprint-missing"):
        forbidden("fingerprint-missing", "no such rule")


def test_names_and_meanings_are_one_line_each() -> None:
    assert all(name == name.lower() and " " not in name for name in RULES)
    assert all(meaning and "\n" not in meaning and not meaning.endswith(".") for meaning in RULES.values())
