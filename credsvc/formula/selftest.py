"""Vectors against a module: a request goes in, the module fills holes, and what is released is compared with
what was published.

Rules:
- A vector file names its origin, licence, generator and independent check, and a published key that protects
  nothing.
- A case expects outputs (each compared exactly), bindings (compared by name) or a refusal (the field that it
  names).
- The module runs wherever the caller's `ModuleRunner` runs it: in the sandbox for the command line, plainly
  in tests.
- A failed case is a result, not an exception; with `is_traced` it carries every binding, with the published
  key's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from credsvc.formula.evaluate import evaluate_filled
from credsvc.formula.explain import trace
from credsvc.formula.holes import check_holes
from credsvc.formula.injected import INJECTED, build_clock
from ostiary.errors import BadInput, OstiaryError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from credsvc.formula.holes import FilledHoles
    from credsvc.formula.manifest import Manifest

# AWS's whole test suite is 36 KB.
MAX_VECTORS_BYTES: Final = 1 << 20


class Expectation(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The expected result: texts by sink, texts by binding, or the field that a refusal names."""

    outputs: dict[str, str] = {}
    bindings: dict[str, str] = {}
    refused: str | None = None


class Vector(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One case; `now` is seconds since 1970, `shareable` adds to the file's."""

    title: str
    operation: str
    now: int
    request: dict[str, Any]
    expect: Expectation
    shareable: dict[str, str] = {}


class VectorFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Cases that share an origin and a published key."""

    origin: str
    license: str
    generator: str
    check: str
    shareable: dict[str, str]
    confidential: dict[str, str]
    cases: tuple[Vector, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SelftestResult:
    """The result of one case: `message` says what differed (empty when passed), `trace` is (name, value) in
    order.
    """

    title: str
    passed: bool
    message: str
    trace: tuple[tuple[str, str], ...]


class ModuleRunner(Protocol):
    """Runs one operation of the module under test; raises OstiaryError when the module fails."""

    def __call__(
        self, operation: str, request: dict[str, Any], credential: dict[str, str], clock: dict[str, int | str]
    ) -> tuple[str, Mapping[str, object]]:
        """The formula's name and the holes."""
        ...


def parse_vectors(data: bytes) -> VectorFile:
    """A vector file (JSON bytes); BadInput(field="vectors") names what is wrong."""
    if len(data) > MAX_VECTORS_BYTES:
        raise BadInput(f"vectors: larger than {MAX_VECTORS_BYTES} bytes", field="vectors")
    try:
        return msgspec.json.decode(data, type=VectorFile)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise BadInput(f"vectors: {exc}", field="vectors") from exc


def run(
    manifest: Manifest, module: ModuleRunner, vectors: Iterable[VectorFile], *, is_traced: bool
) -> list[SelftestResult]:
    """Run every case of every file, in order. The caller decides what it means to have no vectors."""
    return [
        _run_case(manifest, module, file, case, is_traced=is_traced)
        for file in vectors
        for case in file.cases
    ]


def build_plain_runner(source: str) -> ModuleRunner:
    """Run module source as plain Python, WITHOUT a sandbox: only for tests of modules in this repository."""
    code = compile(source, "module.py", "exec")

    def call(
        operation: str, request: dict[str, Any], credential: dict[str, str], clock: dict[str, int | str]
    ) -> tuple[str, Mapping[str, object]]:
        scope: dict[str, Any] = dict(INJECTED)
        exec(code, scope)  # noqa: S102 - see the docstring
        try:
            proposal = scope[operation](request, credential, clock)
            return proposal["formula"], proposal["holes"]
        except Exception as exc:
            raise BadInput(f"the module failed: {type(exc).__name__}", field="module") from exc

    return call


def _run_case(
    manifest: Manifest, module: ModuleRunner, file: VectorFile, case: Vector, *, is_traced: bool
) -> SelftestResult:
    shareable = {**file.shareable, **case.shareable}
    confidential = {name: value.encode() for name, value in file.confidential.items()}
    shown: dict[str, str] = {}
    try:
        # The trace is taken first: a case that fails in the evaluation shows how far it came.
        filled = _propose(manifest, module, case, shareable, confidential)
        shown = trace(manifest, filled, shareable=shareable, confidential=confidential)
        released = evaluate_filled(
            manifest, filled, shareable=shareable, confidential=confidential, memo=None
        )
        problem = _compare(case.expect, released.outputs, shown)
    except OstiaryError as exc:
        expected = case.expect.refused is not None and exc.field == case.expect.refused
        problem = "" if expected else f"refused: {exc.message}"
    passed = not problem
    return SelftestResult(
        title=case.title, passed=passed, message=problem, trace=tuple(shown.items()) if is_traced else ()
    )


def _propose(
    manifest: Manifest,
    module: ModuleRunner,
    case: Vector,
    shareable: dict[str, str],
    confidential: Mapping[str, bytes],
) -> FilledHoles:
    manifest.check_shareable(shareable)
    _check_confidential(manifest, confidential)
    formula, holes = module(case.operation, case.request, dict(shareable), build_clock(case.now))
    now = datetime.fromtimestamp(case.now, tz=UTC)
    return check_holes(manifest, formula, holes, operation=case.operation, now=now, ceiling={})


def _check_confidential(manifest: Manifest, values: Mapping[str, bytes]) -> None:
    for name in sorted(values.keys() - manifest.confidential.keys()):
        raise BadInput(
            f"module {manifest.name!r} has no confidential field {name!r}", field=f"confidential.{name}"
        )
    for name in manifest.confidential:
        if name not in values:
            raise BadInput(f"field {name!r} is missing", field=f"confidential.{name}")
        manifest.check_secret(name, values[name])


def _compare(expect: Expectation, outputs: Mapping[str, str], bindings: Mapping[str, str]) -> str:
    if expect.refused is not None:
        return f"wanted a refusal of {expect.refused}, got releases"
    if not expect.outputs and not expect.bindings:
        return "the case expects nothing"
    for kind, wanted, got in (("binding", expect.bindings, bindings), ("output", expect.outputs, outputs)):
        for name, value in wanted.items():
            if got.get(name) != value:
                return f"{kind} {name}: wanted {value!r}, got {got.get(name)!r}"
    return ""
