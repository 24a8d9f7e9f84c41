"""The credential modules that we ship load and run in the real sandbox, and say there what plain
Python says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from credsvc.formula.injected import INJECTED
from tests.support.repository import ROOT
from tests.support.sandbox_stack import Stack, module, running

MODULES = sorted((ROOT / "modules").glob("*/module.py"))
CLOCK = {"epoch": 1767323045}
CREDENTIAL = {"access_key_id": "AKIDEXAMPLE", "api_key": "key"}
REQUESTS: list[dict[str, Any]] = [
    {
        "method": "GET",
        "url": "https://s3.eu-north-1.amazonaws.com/photos//a b%20c/../x?list-type=2&prefix=a%2Fb&z",
        "headers": {"X-Amz-Meta": "  a   b ", "User-Agent": "x", "Accept": "*/*"},
        "region": "eu-north-1",
        "service": service,
    }
    for service in ("s3", "sts")
]


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with running() as made:
        yield made


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.parent.name)
def test_loads(stack: Stack, path: Path) -> None:
    stack.pool.check_source(path.read_text("utf-8"))


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda each: each["service"])
@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.parent.name)
def test_the_guards_change_no_result(stack: Stack, path: Path, request_: dict[str, Any]) -> None:
    source = path.read_text("utf-8")
    plain: dict[str, Any] = dict(INJECTED)
    exec(source, plain)  # noqa: S102 - our own modules
    arguments = {"request": request_, "credential": CREDENTIAL, "clock": CLOCK}
    proposal = stack.pool.run(module(source), "sign", arguments, 10.0)
    assert {"formula": proposal.formula, "holes": proposal.holes} == plain["sign"](**arguments)
