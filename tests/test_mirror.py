"""The tests mirror the tree: whoever knows a source knows where its tests are, and the other way round.

- `tests/DIR/test_NAME.py` and `tests/DIR/test_NAME_MORE.py` test `DIR/NAME.py` (or the migrations in
  `DIR/NAME`).
- A source without such a file stands in `tests/tested_elsewhere.toml`, with the test that covers it.
- `tests/integration` and `tests/interop` test whole services, `tests/support` holds what tests share, and the
  files directly in `tests/` test the repository itself.
"""

from __future__ import annotations

import subprocess
import tomllib
from pathlib import PurePosixPath
from typing import Final

from tests.support.repository import ROOT

SOURCES: Final = ("ca", "certmgr", "credsvc", "keyutils", "ostiary")
APART: Final = ("integration", "interop", "support")
ELSEWHERE: Final[dict[str, str]] = tomllib.loads(
    (ROOT / "tests" / "tested_elsewhere.toml").read_text("utf-8")
)["sources"]


def _listed(pattern: str) -> list[PurePosixPath]:
    """Python files of the checkout that git does not ignore; all of them where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", pattern]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    paths = listed or [str(path.relative_to(ROOT)) for path in ROOT.glob(pattern)]
    return [PurePosixPath(path) for path in paths if (ROOT / path).is_file()]


def _sources() -> set[PurePosixPath]:
    found = {path for top in SOURCES for path in _listed(f"{top}/**/*.py") + _listed(f"{top}/*.py")}
    migrations = {path.parent.with_suffix(".py") for path in found if path.match("migrations/env.py")}
    return migrations | {
        path for path in found if path.name != "__init__.py" and "migrations" not in path.parts
    }


def _tests() -> set[PurePosixPath]:
    found = {
        path for top in SOURCES for path in _listed(f"tests/{top}/**/*.py") + _listed(f"tests/{top}/*.py")
    }
    return {path.relative_to("tests") for path in found if path.name.startswith("test_")}


def source_of(test: PurePosixPath, sources: set[PurePosixPath]) -> PurePosixPath | None:
    """The source that a test file names: the longest name that its own begins with, or None."""
    name = test.stem.removeprefix("test_")
    while name:
        source = test.parent / f"{name}.py"
        if source in sources:
            return source
        name = name.rpartition("_")[0]
    return None


def test_each_test_file_names_its_source() -> None:
    sources = _sources()
    assert not [str(test) for test in sorted(_tests()) if source_of(test, sources) is None]


def test_each_source_has_a_test_file_or_says_where_it_is_tested() -> None:
    sources = _sources()
    named = {source_of(test, sources) for test in _tests()}
    missing = {str(source) for source in sources if source not in named}
    assert missing == set(ELSEWHERE)


def test_what_is_tested_elsewhere_is_tested_by_a_file_that_exists() -> None:
    for source, test in ELSEWHERE.items():
        path, _, function = test.partition("::")
        text = (ROOT / path).read_text("utf-8")
        assert not function or f"def {function}(" in text, (source, test)


def test_nothing_stands_beside_the_mirror() -> None:
    folders = {
        path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert folders == {*SOURCES, *APART} & folders


def test_helpers_are_in_support() -> None:
    found = {
        path for top in SOURCES for path in _listed(f"tests/{top}/**/*.py") + _listed(f"tests/{top}/*.py")
    }
    assert not {str(path) for path in found if not path.name.startswith(("test_", "conftest"))}


def test_the_mirror_sees_a_test_that_names_nothing() -> None:
    sources = {PurePosixPath("ca/front/feed.py")}
    assert source_of(PurePosixPath("ca/front/test_feed_late.py"), sources) == PurePosixPath(
        "ca/front/feed.py"
    )
    assert source_of(PurePosixPath("ca/front/test_food.py"), sources) is None
