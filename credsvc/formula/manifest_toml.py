"""A credential module's manifest: TOML bytes to a checked value.

Every table and key is known, or the manifest is refused; an error names table, key and what was wanted.

The plan:
 1. UTF-8 and TOML, within a limit of size;
 2. each table by its own type: unknown keys, missing keys, types and bounds;
 3. each formula parsed, its context supplied by its holes;
 4. formula names unique in the manifest, and one context, with one set of types, for all alternatives;
 5. names and kinds in every formula (`kinds.py`), which need all of the above.
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from credsvc.formula.kinds import check_kinds
from credsvc.formula.manifest import (
    FORMULA_CONTEXT,
    ConfidentialField,
    ContextSource,
    Formula,
    Manifest,
    Operation,
    ShareableField,
    Summary,
    cedar_type,
)
from credsvc.formula.notation import parse_formula
from credsvc.formula.pattern import SafePattern
from credsvc.formula.types import MAX_ENTRIES, HoleType, ListHole
from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# SigV4's, with four formulas, has 8,077.
MAX_MANIFEST_BYTES: Final = 65_536

_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
# Where msgspec names the key: " - at `$.length[0]`", "missing required field `version`".
_PLACE: Final = re.compile(r"`\$\.(\w+)|field `([^`]+)`")

_Few = Meta(max_length=MAX_ENTRIES)
_Tables = Annotated[dict[str, Any], _Few]
_SomeTables = Annotated[_Tables, Meta(min_length=1)]

_T = TypeVar("_T")


# The tables as they stand in the file. Those within are read one by one afterwards, so that an error can name
# them: msgspec calls every value of a dict `[...]`.
class _Root(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: Annotated[str, Meta(pattern=r"^[a-z][a-z0-9-]{0,62}\Z")]
    version: Annotated[str, Meta(pattern=r"^[0-9]{1,6}[.][0-9]{1,6}[.][0-9]{1,6}\Z")]
    summary: Summary
    hosts: Annotated[tuple[Annotated[str, Meta(pattern=r"^[a-z0-9*][a-z0-9.*-]{0,252}\Z")], ...], _Few] = ()
    sources: Annotated[tuple[Annotated[str, Meta(pattern=r"^https?://[!-~]{1,300}\Z")], ...], _Few] = ()
    shareable: _Tables = {}
    confidential: _Tables = {}
    operations: _SomeTables


class _OperationTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    summary: Summary
    context: Annotated[
        tuple[Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}(\[[A-Za-z0-9_-]{1,64}\])?\Z")], ...], _Few
    ] = ()
    formulas: _SomeTables


class _FormulaTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    summary: Summary
    formula: str
    holes: _Tables = {}


def parse_manifest(data: bytes) -> Manifest:
    """Read a manifest from TOML bytes (UTF-8); BadInput(field="manifest...") names what is wrong."""
    root = _read(_load(data), _Root, "manifest")
    operations = {
        name: _operation(name, _read(table, _OperationTable, path), path)
        for name, table, path in _tables(root.operations, "manifest.operations")
    }
    manifest = Manifest(
        name=root.name,
        version=root.version,
        summary=root.summary,
        shareable=_read_all(root.shareable, ShareableField, "manifest.shareable"),
        confidential=_read_all(root.confidential, ConfidentialField, "manifest.confidential"),
        operations=operations,
        formulas=_all_formulas(operations),
        hosts=root.hosts,
        sources=root.sources,
        digest=hashlib.sha256(data).hexdigest(),
    )
    for formula in manifest.formulas.values():
        _check_kinds(manifest, formula)
    return manifest


def _load(data: bytes) -> dict[str, Any]:
    # 1.
    if len(data) > MAX_MANIFEST_BYTES:
        raise BadInput(f"manifest: larger than {MAX_MANIFEST_BYTES} bytes", field="manifest")
    try:
        return tomllib.loads(data.decode())
    except UnicodeDecodeError as exc:
        raise BadInput("manifest: not UTF-8", field="manifest") from exc
    # tomllib recurses once for each level of nesting, and a manifest is somebody else's text.
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise BadInput(f"manifest: not TOML: {exc}", field="manifest") from exc


def _wrong(path: str, what: str) -> BadInput:
    return BadInput(f"{path}: {what}", field=path)


def _read(table: dict[str, Any], kind: type[_T], path: str) -> _T:
    # 2.
    try:
        value = msgspec.convert(table, kind, dec_hook=_pattern)
    except msgspec.ValidationError as exc:
        place = _PLACE.search(str(exc))
        inner = f".{place[1] or place[2]}" if place else ""
        raise _wrong(path + inner, str(exc).partition(" - at `")[0]) from exc
    # An approver reads it: nothing in it may steer a terminal or turn the direction of writing.
    if not getattr(value, "summary", "").isprintable():
        raise _wrong(f"{path}.summary", "wanted one line of printable text")
    # A name that stands in a list twice is a slip of the author's, and no list here means anything by it.
    # The file's lists are asked: a set among the value's members has swallowed the slip.
    for key, texts in table.items():
        if (
            isinstance(texts, list)
            and isinstance(next(iter(texts), None), str)
            and len(set(texts)) < len(texts)
        ):
            raise _wrong(f"{path}.{key}", "wanted each text once")
    return value


def _pattern(_: type, text: object) -> SafePattern:
    if not isinstance(text, str):
        raise TypeError("wanted a pattern")
    try:
        return SafePattern(text)
    except BadInput as exc:
        # msgspec adds the place to a ValueError, and to nothing else.
        raise ValueError(exc.message) from exc


def _tables(tables: Mapping[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    for name, table in tables.items():
        is_name = _NAME.fullmatch(name) is not None
        if not is_name or not isinstance(table, dict):
            raise _wrong(
                f"{path}.{name}",
                "wanted a table" if is_name else f"wanted a name that matches {_NAME.pattern}",
            )
        yield name, table, f"{path}.{name}"


def _read_all(tables: Mapping[str, Any], kind: type[_T], path: str) -> dict[str, _T]:
    return {name: _read(table, kind, place) for name, table, place in _tables(tables, path)}


def _operation(name: str, table: _OperationTable, path: str) -> Operation:
    context = tuple(_context_source(text) for text in table.context)
    if len({source.name for source in context}) != len(context):
        raise _wrong(f"{path}.context", "wanted each name once")
    formulas = tuple(
        _formula(key, name, _read(inner, _FormulaTable, place), context, place)
        for key, inner, place in _tables(table.formulas, f"{path}.formulas")
    )
    # 4.
    for formula in formulas[1:]:
        if any(cedar_type(formula, source) != cedar_type(formulas[0], source) for source in context):
            raise _wrong(f"{path}.context", "wanted the same types in all formulas of the operation")
    return Operation(name=name, summary=table.summary, context=context, formulas=formulas)


def _context_source(text: str) -> ContextSource:
    hole, _, key = text.rstrip("]").partition("[")
    if key:
        # Cedar's attributes are identifiers: a header's name becomes one.
        return ContextSource(name=key.lower().replace("-", "_"), hole=hole, key=key)
    return ContextSource(name=hole, hole=None if hole == FORMULA_CONTEXT else hole, key=None)


def _formula(
    name: str, operation: str, table: _FormulaTable, context: tuple[ContextSource, ...], path: str
) -> Formula:
    # 3.
    try:
        statements = parse_formula(table.formula)
    except BadInput as exc:
        raise _wrong(f"{path}.formula", f"wanted a valid formula: {exc.message}") from exc
    # mypy takes a union for no type (python/mypy#9773); msgspec reads it by the tags of its members.
    holes: dict[str, HoleType] = _read_all(table.holes, HoleType, f"{path}.holes")  # type: ignore[arg-type]
    for source in context:
        _check_source(source, holes, f"{path}.holes")
    return Formula(
        name=name,
        operation=operation,
        summary=table.summary,
        text=table.formula,
        statements=statements,
        holes=holes,
        context=context,
    )


def _check_source(source: ContextSource, holes: Mapping[str, HoleType], path: str) -> None:
    if source.hole is None:
        return
    kind = holes.get(source.hole)
    if isinstance(kind, ListHole):
        if source.key is None or source.key not in kind.must or not kind.unique or len(kind.columns) < 2:
            raise _wrong(
                path,
                f"wanted {source.hole!r} unique, with a value column and {source.key!r} in `must`: "
                "it is context",
            )
    elif kind is None or source.key is not None:
        raise _wrong(path, f"wanted a hole {source.hole!r} that can supply the context {source.name!r}")


def _all_formulas(operations: Mapping[str, Operation]) -> dict[str, Formula]:
    # 4.
    formulas: dict[str, Formula] = {}
    for operation in operations.values():
        for formula in operation.formulas:
            if formula.name in formulas:
                raise _wrong(
                    f"manifest.operations.{operation.name}.formulas",
                    f"wanted a name other than {formula.name!r}, which is taken",
                )
            formulas[formula.name] = formula
    return formulas


def _check_kinds(manifest: Manifest, formula: Formula) -> None:
    # 5.
    try:
        check_kinds(
            formula.statements,
            holes=formula.holes,
            shareable=manifest.shareable,
            confidential=manifest.confidential,
        )
    except BadInput as exc:
        path = f"manifest.operations.{formula.operation}.formulas.{formula.name}.formula"
        raise _wrong(path, f"wanted a valid formula: {exc.message}") from exc
