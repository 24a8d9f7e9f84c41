"""The trusted base: what a keyholder's process loads, counted in first-party statements and printed by
module.

The numbers are upper bounds that only ever fall; docs/security.md says them. Comments and docstrings do not
count.
"""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from ostiary.edge.kek_creation import create_kek
from tests.support.repository import ROOT

FIRST_PARTY: Final = frozenset({"ca", "certmgr", "credsvc", "keyutils", "ostiary"})
MOST: Final = {"ca": 1_806, "credsvc": 2_999}
# What opening the key-encryption key adds, by where the configuration says that it lies.
MOST_ADDED: Final = {"file:kek": 0, "prompt": 66, "keyring:kernel": 272}
# No store, no network protocol, no command line, no event loop; of ours, no process but the keyholder.
FORBIDDEN_LIBRARIES: Final = frozenset(
    """
    alembic asyncio boto3 click falcon gunicorn http keyring OpenSSL pygments rich sqlalchemy ssl
    """.split()  # noqa: SIM905  # a list of names, not of lines
)
FORBIDDEN_PARTS: Final = frozenset(
    {"admin", "cli", "commands", "front", "recorder", "responder", "sandbox", "status", "store"}
)

LOADED_BY_ROLE: Final = """
import importlib, json, sys
importlib.import_module(sys.argv[1] + ".role")
importlib.import_module(importlib.import_module(sys.argv[1] + ".role").ROLES[sys.argv[2]])
print(json.dumps({name: getattr(module, "__file__", None) for name, module in sys.modules.items()}))
"""
ADDED_BY_KEY: Final = """
import contextlib, json, sys
from pathlib import Path
from ca.keyholder import role as _
from ostiary.errors import OstiaryError
from ostiary.keyholder.role import _passphrase
from ostiary.edge.kek import load_kek
before = set(sys.modules)
with contextlib.suppress(OstiaryError):  # no keyring in this container: its backend was loaded all the same
    load_kek(sys.argv[1], "shop.example", "ca", directory=Path(sys.argv[2]), ask=_passphrase)
print(json.dumps({name: sys.modules[name].__file__ for name in set(sys.modules) - before if "." in name}))
"""


def loaded_by(service: str, role: str) -> dict[str, str | None]:
    """The modules that the process of a role has when it begins to run, with their files."""
    argv = [sys.executable, "-c", LOADED_BY_ROLE, service, role]
    answer = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    modules: dict[str, str | None] = json.loads(answer)
    return modules


def statements(source: str) -> int:
    """Statements of a source; a string that stands alone is documentation."""
    nodes = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.stmt)]
    return sum(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in nodes)


@pytest.mark.parametrize("service", ["ca", "credsvc"])
def test_a_keyholder_loads_little_of_ours_and_nothing_of_stores_fronts_or_commands(service: str) -> None:
    modules = loaded_by(service, "keyholder")
    ours = {name: file for name, file in modules.items() if name.partition(".")[0] in FIRST_PARTY and file}
    counted = {name: statements(Path(file).read_text("utf-8")) for name, file in ours.items()}
    for name, count in sorted(counted.items(), key=lambda row: (-row[1], row[0])):
        print(f"{count:5} {name}")  # noqa: T201 - the list is for the reader of a failure
    print(f"{sum(counted.values()):5} {service}, of at most {MOST[service]}")  # noqa: T201 - the same
    assert not {name for name in modules if name.partition(".")[0] in FORBIDDEN_LIBRARIES}
    assert not {name for name in ours if FORBIDDEN_PARTS & set(name.split(".")[1:])}
    assert sum(counted.values()) <= MOST[service]


@pytest.mark.parametrize(
    ("service", "role", "wanted"),
    [("ca", "recorder", "sqlalchemy"), ("ca", "front", "falcon"), ("credsvc", "admin", "sqlalchemy")],
)
def test_the_count_sees_what_other_roles_load(service: str, role: str, wanted: str) -> None:
    assert wanted in loaded_by(service, role)


@pytest.mark.parametrize("spec", MOST_ADDED)
def test_only_the_store_of_the_key_that_was_chosen_is_loaded(spec: str, tmp_path: Path) -> None:
    (tmp_path / "passphrase").touch(mode=0o600)
    (tmp_path / "passphrase").write_text("correct horse battery")
    if not spec.startswith("keyring"):
        create_kek(spec, "shop.example", "ca", directory=tmp_path, ask=lambda: "correct horse battery")
    argv = [sys.executable, "-c", ADDED_BY_KEY, spec, str(tmp_path)]
    env = {**os.environ, "OSTIARY_PASSPHRASE_FILE": str(tmp_path / "passphrase")}
    answer = subprocess.run(argv, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    modules: dict[str, str | None] = json.loads(answer)
    ours = {name: file for name, file in modules.items() if name.partition(".")[0] in FIRST_PARTY and file}
    counted = {name: statements(Path(file).read_text("utf-8")) for name, file in ours.items()}
    # The list is for the reader of a failure.
    print(f"{sum(counted.values()):5} {spec}: {counted}")  # noqa: T201
    assert sum(counted.values()) <= MOST_ADDED[spec]
    assert ("keyring.core" in modules) == spec.startswith("keyring")


def test_the_document_says_the_bounds() -> None:
    told = " ".join((ROOT / "docs" / "security.md").read_text("utf-8").split())
    assert f"{MOST['ca']:,} statements in the CA and {MOST['credsvc']:,} in the credentials service" in told
    assert f"A `prompt` key adds {MOST_ADDED['prompt']}" in told
    assert f"`keyring:kernel` {MOST_ADDED['keyring:kernel']}" in told


def test_documentation_does_not_count() -> None:
    assert statements('"""Text."""\n# why\nx = 1\ndef f():\n    """Text."""\n    return 1\n') == 3
