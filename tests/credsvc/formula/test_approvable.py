"""The refusal of a manifest as an error: named by its first rule, told by its first findings."""

from __future__ import annotations

import pytest

from credsvc.formula.approvable import check_approvable
from ostiary.errors import Forbidden
from tests.support.manifests import build, operation


def test_a_manifest_without_refusals_passes() -> None:
    check_approvable(build(operation("op", "release x = hex(hmac(sha256, !key, 'v1:' $word))")))


def test_a_refusal_names_rule_formula_and_line() -> None:
    with pytest.raises(Forbidden) as refused:
        check_approvable(build(operation("op", "a = 'x'\nrelease y = a\nrelease x = hex(!key)")))
    assert refused.value.rule == "approval-one-way"
    assert refused.value.message == (
        "module 'example' is not approvable: "
        "formula 'op', line 3: !key leaves without a one-way function above it"
    )


def test_of_many_refusals_three_are_told_and_the_others_counted() -> None:
    formula = "\n".join(f"release x{index} = hex(!key)" for index in range(5))
    with pytest.raises(Forbidden) as refused:
        check_approvable(build(operation("op", formula)))
    assert refused.value.message.count("line ") == 3
    assert refused.value.message.endswith("; and 2 more")
