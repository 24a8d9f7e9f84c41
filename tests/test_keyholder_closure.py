"""The trusted base: what a keyholder's process loads, counted in first-party statements and printed by
module.

The numbers are upper bounds that only ever fall; docs/security.md says them. Comments and docstrings do not
count.
"""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.repository import ROOT

FIRST_PARTY: Final = frozenset({"ca", "certmgr", "credsvc", "keyutils", "ostiary"})
MOST: Final = {"ca": 1_911, "credsvc": 3_105}
# Loaded only where the configuration says `keyring:kernel`.
MOST_OF_KERNEL_BACKEND: Final = 241
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
LOADED_BY_BACKEND: Final = """
import sys
import keyutils.backend
print(*{module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] in sys.argv[1:]})
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


def test_a_key_in_the_kernels_keyring_adds_our_backend_and_no_more_of_ours() -> None:
    argv = [sys.executable, "-c", LOADED_BY_BACKEND, *FIRST_PARTY]
    files = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {Path(file).parent.name for file in files} == {"keyutils"}
    assert sum(statements(Path(file).read_text("utf-8")) for file in files) <= MOST_OF_KERNEL_BACKEND


def test_the_document_says_the_bounds() -> None:
    told = " ".join((ROOT / "docs" / "security.md").read_text("utf-8").split())
    assert f"{MOST['ca']:,} statements in the CA and {MOST['credsvc']:,} in the credentials service" in told
    assert f"our backend for it ({MOST_OF_KERNEL_BACKEND} statements)" in told


def test_documentation_does_not_count() -> None:
    assert statements('"""Text."""\n# why\nx = 1\ndef f():\n    """Text."""\n    return 1\n') == 3
