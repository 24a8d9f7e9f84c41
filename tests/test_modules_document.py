"""docs/modules.md against the code: the functions, formats and types that it lists are those that exist."""

from __future__ import annotations

import re

from credsvc.formula.injected import INJECTED
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.notation import FUNCTIONS
from credsvc.formula.report import report_manifest
from credsvc.formula.types import TIME_FORMATS, FieldType, Strength
from tests.support.repository import ROOT

TEXT = (ROOT / "docs" / "modules.md").read_text()


def test_every_injected_function_and_no_other_is_listed() -> None:
    code = TEXT.partition("## The code")[2].partition("## Vectors")[0]
    table = "".join(line for line in code.splitlines(keepends=True) if line.startswith("| `"))
    assert set(re.findall(r"`([a-z0-9_]+)\(", table)) == set(INJECTED)


def test_every_function_format_and_type_is_named() -> None:
    names = [
        *FUNCTIONS,
        *TIME_FORMATS,
        *(kind.value for kind in FieldType),
        *(kind.value for kind in Strength),
    ]
    assert [name for name in names if name not in TEXT] == []


def test_the_example_manifest_is_approvable() -> None:
    example = TEXT.partition("```toml\n")[2].partition("```")[0]
    report = report_manifest(parse_manifest(example.encode()))
    assert report.refusals == ()
    assert report.guessable == {"sign"}
