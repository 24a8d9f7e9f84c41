"""The directions of imports (docs/adr/0001), read from the sources themselves, and the shape of files.

services (ca, certmgr, credsvc) -> ostiary -> keyutils; a service never imports another; the pure packages know no clock, no
randomness and no operating system; credential modules are data and never imported.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SERVICES = {"ca", "certmgr", "credsvc"}
OURS = SERVICES | {"ostiary", "keyutils", "modules", "tests", "benchmarks"}
COMPOSITION_ROOTS = ("ostiary.cli", "ostiary.demo")
# Bytes and values in, values out: `now` and random bytes are arguments.
PURE = (
    *("ostiary.capabilities", "ostiary.certificate", "ostiary.der", "ostiary.errors", "ostiary.formula"),
    *(
        "ostiary.identity",
        "ostiary.ledger",
        "ostiary.names",
        "ostiary.secret",
        "ostiary.token",
        "ostiary.work",
    ),
    *("ca.accept", "ca.crl", "ca.lint", "ca.ocsp", "ca.profile", "certmgr.lifecycle"),
)
WORLD = {"os", "socket", "ssl", "time", "random", "secrets", "subprocess", "threading", "select", "selectors"}
WORLD_OF_OURS = ("ostiary.edge", "ostiary.recorder", "ostiary.keyholder", "ostiary.supervisor", "ostiary.cli")
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}
LONGEST = 400


def _within(module: str, *packages: str) -> bool:
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def _module(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def imports_of(source: str, module: str, *, is_package: bool = False) -> Iterator[str]:
    """Absolute names of everything a source imports, at any depth; `from a import b` gives both a and a.b."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: len(module.split(".")) + is_package - node.level]
            base = ".".join([*(package if node.level else []), *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def wrong_arrows(module: str, imported: set[str]) -> Iterator[str]:
    """Why an import of `module` points the wrong way, one sentence each."""
    top = module.partition(".")[0]
    for name in sorted(imported):
        target = name.partition(".")[0]
        if target == "modules":
            yield f"{module} imports {name}: credential modules are loaded, never imported"
        elif top in SERVICES and target in SERVICES - {top}:
            yield f"{module} imports {name}: services meet on the wire"
        elif top == "ostiary" and target in SERVICES and not _within(module, *COMPOSITION_ROOTS):
            yield f"{module} imports {name}: services use ostiary, not the other way"
        elif top == "keyutils" and target in OURS - {"keyutils"}:
            yield f"{module} imports {name}: keyutils knows nothing of ours"
        elif _within(module, *PURE) and (target in WORLD or _within(name, *WORLD_OF_OURS)):
            yield f"{module} imports {name}: a pure package takes what it needs as arguments"


def _sources(*tops: str) -> list[Path]:
    """Python files below these folders, relative to the root; what git ignores doesn't count."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout.split()
    paths = [Path(line) for line in listed] or [path.relative_to(ROOT) for path in ROOT.rglob("*.py")]
    return [path for path in paths if path.parts[0] in tops and (ROOT / path).exists()]


def test_imports_point_one_way() -> None:
    wrong: list[str] = []
    for path in _sources(*SERVICES, "ostiary", "keyutils"):
        source, module = (ROOT / path).read_text("utf-8"), _module(path)
        wrong += wrong_arrows(module, set(imports_of(source, module, is_package=path.name == "__init__.py")))
    assert not wrong, "\n".join(wrong)


def test_the_test_sees_each_kind_of_wrong_arrow() -> None:
    cases = {
        ("ca.app", "import credsvc.catalog"): "meet on the wire",
        ("credsvc.app", "def f():\n    from certmgr import app"): "meet on the wire",
        ("ostiary.edge.http", "from ca import app"): "services use ostiary",
        ("keyutils.keyring", "from ostiary.errors import BadInput"): "knows nothing of ours",
        ("ostiary.ledger.tree", "import time"): "pure package",
        ("ostiary.formula.evaluate", "from ..edge import clock"): "pure package",
        ("ostiary.ledger", "from .. import recorder"): "pure package",
        ("credsvc.catalog", "import modules.gogrid"): "never imported",
    }
    for (module, source), reason in cases.items():
        found = list(
            wrong_arrows(module, set(imports_of(source, module, is_package=module == "ostiary.ledger")))
        )
        assert len(found) >= 1, (module, source)
        assert reason in found[0]
    assert not list(wrong_arrows("ostiary.cli.ca", {"ca.app"}))


def test_files_are_named_for_a_concept_and_short() -> None:
    for path in _sources(*OURS):
        assert path.stem not in SAYS_NOTHING, f"{path}: name the concept"
        lines = len((ROOT / path).read_text("utf-8").splitlines())
        assert lines <= LONGEST, f"{path}: {lines} lines, split it ({LONGEST} at most)"
