"""The directions of imports (docs/adr/0001), read from the sources themselves, and the shape of files.

services (ca, certmgr, credsvc) -> ostiary -> keyutils; a service never imports another; the pure packages
know no clock, no randomness and no operating system; credential modules are data and never imported.
"""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.repository import ROOT

SERVICES = {"ca", "certmgr", "credsvc"}
OURS = SERVICES | {"ostiary", "keyutils", "modules", "tests", "benchmarks"}
COMPOSITION_ROOTS = ("ostiary.cli", "ostiary.demo")
# Bytes and values in, values out: `now` and random bytes are arguments.
PURE = tuple(
    """
    ostiary.capabilities ostiary.certificate ostiary.der ostiary.errors ostiary.identity ostiary.ledger ostiary.names
    ostiary.peer ostiary.secret ostiary.subsystems ostiary.token ostiary.work
    ca.certificates ca.items ca.front.peer certmgr.lifecycle credsvc.formula credsvc.items
    """.split()  # noqa: SIM905  # a list of names, not of lines
)
WORLD = {"os", "socket", "ssl", "random", "secrets", "subprocess", "threading", "select", "selectors"}
WORLD_OF_OURS = ("ostiary.edge", "ostiary.recorder", "ostiary.keyholder", "ostiary.supervisor", "ostiary.cli")
# `time` and `datetime` also calculate with moments that they are given; these names ask the clock, or wait
# for it.
CLOCK = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep", "now", "utcnow", "today"}
# Each of these libraries is known to one file.
ADAPTERS = {
    "OpenSSL": "ostiary.front.tls",
    "cedarpy": "credsvc.policy.cedar",
    "RestrictedPython": "credsvc.sandbox.policy",
}
SAYS_NOTHING = {"utils", "util", "helpers", "helper", "common", "misc"}
LONGEST = 420


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


def clock_readings(source: str) -> Iterator[str]:
    """Calls that ask the clock: time.time(), datetime.now(UTC), time.gmtime() without a moment, and imports
    of such names.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "time":
            yield from (alias.name for alias in node.names if alias.name in CLOCK)
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        owner, name = node.func.value, node.func.attr
        asks = name in CLOCK or (name in {"gmtime", "localtime"} and not node.args)
        if asks and isinstance(owner, ast.Name) and owner.id in {"time", "datetime", "date"}:
            yield f"{owner.id}.{name}"


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
        elif ADAPTERS.get(target, module) != module:
            yield f"{module} imports {name}: {ADAPTERS[target]} is its adapter"
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
        if _within(module, *PURE):
            wrong += [f"{module} asks {name}: `now` is an argument" for name in clock_readings(source)]
    assert not wrong, "\n".join(wrong)


def test_the_test_sees_each_kind_of_wrong_arrow() -> None:
    cases = {
        ("ca.app", "import credsvc.front.catalog"): "meet on the wire",
        ("credsvc.front.app", "def f():\n    from certmgr import app"): "meet on the wire",
        ("ostiary.front.http", "from ca import app"): "services use ostiary",
        ("keyutils.keyring", "from ostiary.errors import BadInput"): "knows nothing of ours",
        ("ostiary.ledger.tree", "import os.path"): "pure package",
        ("credsvc.formula.evaluate", "from ostiary.edge import clock"): "pure package",
        ("ostiary.ledger", "from .. import recorder"): "pure package",
        ("ca.front.role", "from OpenSSL import SSL"): "its adapter",
        ("credsvc.front.catalog", "import modules.gogrid"): "never imported",
    }
    for (module, source), reason in cases.items():
        found = list(
            wrong_arrows(module, set(imports_of(source, module, is_package=module == "ostiary.ledger")))
        )
        assert len(found) >= 1, (module, source)
        assert reason in found[0]
    assert not list(wrong_arrows("ca.commands.ca", {"ca.app"}))
    assert not list(wrong_arrows("ostiary.front.tls", {"OpenSSL.SSL"}))


def test_the_test_sees_each_way_to_ask_the_clock() -> None:
    asking = (
        "time.time()",
        "datetime.now(UTC)",
        "date.today()",
        "time.gmtime()",
        "from time import monotonic",
    )
    assert all(list(clock_readings(source)) for source in asking)
    calculating = (
        "time.gmtime(at_s)",
        "datetime.fromtimestamp(at_s, UTC)",
        "from time import gmtime",
        "row.time()",
    )
    assert not any(list(clock_readings(source)) for source in calculating)


def test_files_are_named_for_a_concept_and_short() -> None:
    paths = _sources(*OURS)
    unnamed = [f"{path}: name the concept" for path in paths if path.stem in SAYS_NOTHING]
    lengths = {path: len((ROOT / path).read_text("utf-8").splitlines()) for path in paths}
    long = [f"{path}: {lines} lines, split it" for path, lines in lengths.items() if lines > LONGEST]
    assert not unnamed + long, "\n".join(unnamed + long)
