"""The operators' verbs together: what they take and what they refuse by name."""

from __future__ import annotations

from typing import Any

import pytest

from ostiary.errors import BadInput
from tests.support.credential_operator import OperatorVerbs


def test_each_concern_brings_its_verbs(operator: OperatorVerbs) -> None:
    assert {verb.partition(".")[0] for verb in operator.verbs} == {"credential", "module", "policy", "ledger"}
    assert len(operator.verbs) >= 16


@pytest.mark.parametrize("verb", ["credential.show", "module.show", "policy.validate"])
def test_an_argument_that_a_verb_does_not_know_is_named(operator: OperatorVerbs, verb: str) -> None:
    arguments = {"policy.validate": {"policy": ""}}.get(verb, {"name": "grid"})
    with pytest.raises(BadInput) as refused:
        operator.call(verb, **arguments, sudo=True)
    assert refused.value.field == "sudo"


@pytest.mark.parametrize(
    ("verb", "arguments"),
    [
        ("ledger.entries", {"first": 1 << 70}),
        ("ledger.find", {"terms": ["credential:grid"], "first": 1 << 63}),
        ("ledger.prove", {"index": 1 << 64}),
        ("ledger.tile", {"level": 0, "index": -1, "width": 1}),
        ("ledger.tile", {"level": 0, "index": 1 << 60, "width": 1}),
    ],
)
def test_a_number_that_no_ledger_has_is_named(
    operator: OperatorVerbs, verb: str, arguments: dict[str, Any]
) -> None:
    with pytest.raises(BadInput) as refused:
        operator.call(verb, **arguments)
    assert refused.value.field in {"first", "index"}
