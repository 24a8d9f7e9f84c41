"""Documents keep their promises: every file and test that they name exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.support.repository import ROOT

PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
FILE = re.compile(
    r"`((?:ca|certmgr|credsvc|keyutils|ostiary|modules|clients|docs)/[\w./-]+\.(?:py|md|toml|yaml))`"
)


def functions_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_test_that_a_document_names_exists(page: Path) -> None:
    for file, function in TEST.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / file).is_file(), f"{page.name} names {file}"
        assert not function or function in functions_of(ROOT / file), f"{page.name} names {file}::{function}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_that_a_document_names_exists(page: Path) -> None:
    for file in FILE.findall(page.read_text(encoding="utf-8")):
        assert (ROOT / file).is_file(), f"{page.name} names {file}"


def test_each_promise_of_the_security_page_names_a_test() -> None:
    page = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")
    promises = page.split("## What is promised")[1].split("## What is not promised")[0]
    points = re.split(r"^- ", promises, flags=re.MULTILINE)[1:]
    assert len(points) > 15
    for point in points:
        assert TEST.search(point), f"no test for: {point[:60]}"
