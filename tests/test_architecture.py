"""The rules of import (docs/architecture.md), read from the sources themselves, and the shape of files.

1. Services (ca, certmgr, credsvc) import ostiary, ostiary imports keyutils, and never the other way. A
   service never imports another. Credential modules are data and never imported.
2. A folder that is a process (`PROCESSES`) imports what is pure, stored or shared, never another process's
   folder, but through its doors: `protocol` (what crosses) and `client` (how one asks).
3. A keyholder's folder imports nothing of stores, recorders, fronts or commands.
4. What is pure (`PURE`) knows no clock, no randomness, no operating system and nothing of ours that does.
5. No circle: not between folders, nor between the files that stand directly in a package.
6. Each adapter of a third-party library is one file.
"""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from tests.support.repository import ROOT

SERVICES = {"ca", "certmgr", "credsvc"}
OURS = SERVICES | {"ostiary", "keyutils", "modules", "tests", "benchmarks"}
OURS_TO_RUN = SERVICES | {"ostiary", "keyutils"}
# The process diagram. `commands` and `cli` are the operator's or agent's own process.
PROCESSES = {
    "ca": {"front", "status", "responder", "recorder", "admin", "keyholder", "commands"},
    "certmgr": {"commands"},
    "credsvc": {"front", "sandbox", "recorder", "admin", "keyholder", "commands"},
    "ostiary": {"front", "recorder", "admin", "keyholder", "cli", "demo"},
}
DOORS = {"protocol", "client"}
# What of ostiary's process folders a service's folder of another name is made of.
MADE_OF = {
    "ca.status": {"ostiary.front"},
    "ca.commands": {"ostiary.cli"},
    "certmgr.commands": {"ostiary.cli"},
    "credsvc.commands": {"ostiary.cli"},
    # `ostiary demo` is a command; the story that it plays has a folder of its own.
    "ostiary.cli": {"ostiary.demo"},
}
NOT_FOR_KEYHOLDERS = {"store", "recorder", "front", "status", "admin", "commands", "cli", "sandbox"}
# Bytes and values in, values out: `now` and random bytes are arguments.
PURE = tuple(
    """
    ostiary.address ostiary.capabilities ostiary.capability_ceilings ostiary.certificate ostiary.der
    ostiary.edge.frame ostiary.errors ostiary.front.chunks ostiary.front.head ostiary.front.request_stream
    ostiary.front.room ostiary.identity ostiary.ledger ostiary.names ostiary.peer ostiary.secret
    ostiary.subsystems ostiary.token ostiary.work ca.certificates ca.evaluated_items ca.front.enrollment
    ca.front.peer ca.items ca.recorder.decide ca.recorder.decide_renewals ca.recorder.decide_revocations
    ca.recorder.decide_services ca.recorder.decide_spawns ca.recorder.decide_tokens ca.recorder.decision
    ca.recorder.issuing ca.recorder.rules ca.store.rows certmgr.lifecycle certmgr.scopes
    credsvc.evaluated_items credsvc.formula credsvc.items credsvc.names credsvc.policy
    credsvc.recorder.decide credsvc.store.rows
    """.split()  # noqa: SIM905  # a list of names, not of lines
)
WORLD = {"os", "socket", "ssl", "random", "secrets", "subprocess", "threading", "select", "selectors"}
WORLD_OF_OURS = (
    "ostiary.edge",
    "ostiary.store",
    "ostiary.recorder",
    "ostiary.keyholder",
    "ostiary.supervisor",
    "ostiary.cli",
)
# `time` and `datetime` also calculate with moments that they are given; these names ask the clock, or wait.
CLOCK = {"time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "sleep", "now", "utcnow", "today"}
# Each of these libraries is known to one file.
ADAPTERS = {
    "OpenSSL": "ostiary.front.tls",
    "cedarpy": "credsvc.policy.cedar",
    "RestrictedPython": "credsvc.sandbox.policy",
}
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


def process_of(module: str) -> str | None:
    """The process folder that a module stands in (`ca.front`), or None."""
    package, _, rest = module.partition(".")
    folder = rest.partition(".")[0]
    return f"{package}.{folder}" if folder in PROCESSES.get(package, set()) else None


def _enters_by_door(name: str) -> bool:
    return bool(DOORS & set(name.split(".")[2:]))


def wrong_arrow(module: str, name: str) -> str | None:
    """Why the import of `name` by `module` breaks rule 1, 2, 3, 4 or 6; None where it breaks none."""
    target = name.partition(".")[0]
    own, other = process_of(module), process_of(name)
    # 1. The packages.
    if reason := _wrong_package(module.partition(".")[0], target):
        return reason
    # 2. The processes.
    if own and other and not _may_enter(own, other) and not _enters_by_door(name):
        return f"{other} is another process: {' or '.join(sorted(DOORS))} is its door"
    # 3. The trusted base.
    if own and own.endswith(".keyholder") and NOT_FOR_KEYHOLDERS & set(name.split(".")[1:2]):
        return "a keyholder's process has no store, network or command line"
    # 4. The pure core.
    if _within(module, *PURE) and (target in WORLD or _within(name, *WORLD_OF_OURS)):
        return "a pure package takes what it needs as arguments"
    # 6. The adapters.
    if ADAPTERS.get(target, module) != module:
        return f"{ADAPTERS[target]} is its adapter"
    return None


def _wrong_package(top: str, target: str) -> str | None:
    if target == "modules":
        return "credential modules are loaded, never imported"
    if top in SERVICES and target in SERVICES - {top}:
        return "services meet on the wire"
    if top == "ostiary" and target in SERVICES:
        return "services use ostiary, not the other way"
    if top == "keyutils" and target in OURS - {"keyutils"}:
        return "keyutils knows nothing of ours"
    return None


def _may_enter(own: str, other: str) -> bool:
    """Its own folder; the folder of the same name in ostiary; and what `MADE_OF` says."""
    same_role = other == f"ostiary.{own.partition('.')[2]}"
    return own == other or same_role or other in MADE_OF.get(own, set())


def wrong_arrows(module: str, imported: set[str]) -> Iterator[str]:
    """One sentence for each import of `module` that points the wrong way."""
    for name in sorted(imported):
        reason = wrong_arrow(module, name)
        if reason is not None:
            yield f"{module} imports {name}: {reason}"


def room_of(module: str, packages: set[str]) -> str:
    """The room of a module in the picture: its folder, or itself where it stands directly in a package."""
    parts = module.split(".")
    return ".".join(parts[:2]) if len(parts) > 2 or module in packages else module


def circle_in(arrows: Mapping[str, Iterable[str]]) -> list[str]:
    """A way from a room back to itself, in order; empty where there is none."""
    done: set[str] = set()
    way: list[str] = []

    def visit(room: str) -> list[str]:
        if room in way:
            return [*way[way.index(room) :], room]
        if room in done:
            return []
        way.append(room)
        for following in sorted(arrows.get(room, ())):
            if found := visit(following):
                return found
        done.add(way.pop())
        return []

    return next((found for room in sorted(arrows) if (found := visit(room))), [])


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


def picture() -> dict[str, set[str]]:
    """The arrows between rooms, without those inside one and without what is not ours."""
    sources = {_module(path): path for path in _sources(*OURS_TO_RUN)}
    packages = {name for name, path in sources.items() if path.name == "__init__.py"}
    arrows: dict[str, set[str]] = defaultdict(set)
    for module, path in sources.items():
        source = (ROOT / path).read_text("utf-8")
        for name in imports_of(source, module, is_package=module in packages):
            own, other = room_of(module, packages), room_of(name, packages)
            if name in sources and own != other and name not in SERVICES:
                arrows[own].add(other)
    return arrows


def test_there_is_no_circle() -> None:
    assert not circle_in(picture())


def test_the_picture_sees_a_circle() -> None:
    assert circle_in({"a": {"b"}, "b": {"c", "d"}, "d": {"b"}}) == ["b", "d", "b"]
    assert not circle_in({"a": {"b", "c"}, "b": {"c"}})
    assert "ca.store" in picture()["ca.front"]


def test_whatever_calls_itself_pure_is_held_to_it() -> None:
    for path in _sources(*OURS_TO_RUN):
        said = ast.get_docstring(ast.parse((ROOT / path).read_text("utf-8"))) or ""
        if re.search(r"(^|- |\. )Pure(\.|:| decisions)", said, flags=re.MULTILINE):
            assert _within(_module(path), *PURE), path


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
