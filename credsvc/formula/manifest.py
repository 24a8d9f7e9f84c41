"""A credential module's manifest: TOML bytes to a checked value.

Rules:
- Every table and key is known, or the manifest is refused; an error names table, key and what was wanted.
- Formula names are unique in the whole manifest, since a module answers with the name alone.
- All formulas of an operation supply the same policy context with the same types; `formula` is a reserved
  context name whose value is the formula's own name, so that policy can tell alternatives apart.
- `Manifest.digest` is the SHA-256 of the bytes as they came: what an approver signs.

Leaves to others: whether a formula is safe (`approve.py`), the module's code, the vectors. Format:
docs/modules.md.
"""

from __future__ import annotations

import hashlib
import math
import tomllib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from credsvc.formula.kinds import check_kinds
from credsvc.formula.notation import Statement, parse_formula
from credsvc.formula.tables import Table
from credsvc.formula.types import (
    DEFAULT_SKEW_S,
    MAX_BYTES,
    MAX_INT,
    MAX_ROWS,
    MAX_SKEW_S,
    BytesHole,
    FieldType,
    HoleType,
    IntHole,
    ListHole,
    RegexHole,
    Strength,
    TimeHole,
)
from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from credsvc.formula.pattern import SafePattern

MAX_MANIFEST_BYTES: Final = 65_536
MIN_GENERATED_BITS: Final = 128
MAX_SECRET_CHARS: Final = 4096
FORMULA_CONTEXT: Final = "formula"

_NAME = "[a-z][a-z0-9_]{0,62}"
_MODULE_NAME = "[a-z][a-z0-9-]{0,62}"
_VERSION = "[0-9]{1,6}[.][0-9]{1,6}[.][0-9]{1,6}"
_CONTEXT = r"[a-z][a-z0-9_]{0,62}(\[[A-Za-z0-9_-]{1,64}\])?"
_HOST = r"[a-z0-9*][a-z0-9.*-]{0,252}"

CedarType = Literal["String", "Long"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareableField:
    """A public field of a credential."""

    name: str
    summary: str
    pattern: SafePattern
    optional: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfidentialField:
    """A secret field of a credential: the one use it has, who made it, and its shape (lengths in
    characters).
    """

    name: str
    summary: str
    type: FieldType
    strength: Strength
    alphabet: SafePattern
    min_chars: int
    max_chars: int

    def check(self, secret: bytes) -> None:
        """That a secret to be put has the declared shape; BadInput never says what it was. Entropy can't be
        seen.
        """
        try:
            text = secret.decode("ascii")
        except UnicodeDecodeError:
            text = ""
        fits = self.min_chars <= len(text) <= self.max_chars and all(map(self.alphabet.matches, set(text)))
        if not fits:
            wanted = f"wanted {self.min_chars} to {self.max_chars} characters of {self.alphabet.text}"
            raise BadInput(f"field {self.name!r}: {wanted}", field=f"confidential.{self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSource:
    """Where a value of the policy context comes from: a hole, the row `key` of a list hole, or the formula's
    name (hole None).
    """

    name: str
    hole: str | None
    key: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Formula:
    """One approved expression: its statements and the types of its holes."""

    name: str
    operation: str
    summary: str
    text: str
    statements: tuple[Statement, ...]
    holes: Mapping[str, HoleType]
    context: tuple[ContextSource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One thing a module can do for an agent: what policy decides on, and the formulas that are alternatives
    of it.
    """

    name: str
    summary: str
    context: tuple[ContextSource, ...]
    formulas: tuple[Formula, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Manifest:
    """What a module is: fields, operations and their formulas. Two manifests are equal when their
    bytes are.
    """

    name: str
    version: str
    summary: str
    shareable: Mapping[str, ShareableField]
    confidential: Mapping[str, ConfidentialField]
    operations: Mapping[str, Operation]
    formulas: Mapping[str, Formula] = field(repr=False)
    hosts: tuple[str, ...]
    sources: tuple[str, ...]
    digest: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Manifest) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def formula(self, name: str, *, operation: str | None) -> Formula:
        """The formula of that name; with `operation`, only one of its alternatives. BadInput otherwise."""
        found = self.formulas.get(name)
        if found is None or (operation is not None and found.operation != operation):
            raise BadInput("the module named a formula that this operation does not have", field="formula")
        return found

    def context(self, operation: str) -> tuple[tuple[str, CedarType], ...]:
        """The policy context of an operation as (name, Cedar type), in the manifest's order."""
        found = self.operations.get(operation)
        if found is None:
            raise BadInput(f"module {self.name!r} has no operation {operation!r}", field="operation")
        return tuple((source.name, _cedar_type(found.formulas[0], source)) for source in found.context)

    def check_shareable(self, values: Mapping[str, str]) -> None:
        """That a credential's public fields are exactly those declared; BadInput names the field."""
        for name in values:
            if name not in self.shareable:
                raise BadInput(
                    f"module {self.name!r} has no public field {name!r}", field=f"shareable.{name}"
                )
        for name, declared in self.shareable.items():
            value = values.get(name)
            if value is None and declared.optional:
                continue
            if value is None or len(value) > MAX_SECRET_CHARS or not declared.pattern.matches(value):
                raise BadInput(
                    f"field {name!r}: wanted text that matches {declared.pattern.text}",
                    field=f"shareable.{name}",
                )

    def check_confidential(self, values: Mapping[str, bytes]) -> None:
        """That a credential's secret fields are exactly those declared, each of its shape; BadInput names the
        field.
        """
        for name in values:
            if name not in self.confidential:
                raise BadInput(
                    f"module {self.name!r} has no confidential field {name!r}", field=f"confidential.{name}"
                )
        for name, declared in self.confidential.items():
            if name not in values:
                raise BadInput(f"field {name!r}: it is missing", field=f"confidential.{name}")
            declared.check(values[name])


def parse_manifest(data: bytes) -> Manifest:
    """The manifest in TOML bytes (UTF-8); BadInput(field="manifest...") names what is wrong."""
    root = _read(data)
    shareable = {name: _shareable(name, table) for name, table in root.tables("shareable", _NAME)}
    confidential = {name: _confidential(name, table) for name, table in root.tables("confidential", _NAME)}
    operations = {name: _operation(name, table) for name, table in root.tables("operations", _NAME)}
    if not operations:
        raise root.error("operations", "at least one operation")
    manifest = Manifest(
        name=root.text("name", _MODULE_NAME),
        version=root.text("version", _VERSION),
        summary=root.text("summary", ".{1,200}"),
        shareable=shareable,
        confidential=confidential,
        operations=operations,
        formulas=_all_formulas(root, operations),
        hosts=root.texts("hosts", _HOST),
        sources=root.texts("sources", "https?://[!-~]{1,300}"),
        digest=hashlib.sha256(data).hexdigest(),
    )
    root.finish()
    for formula in manifest.formulas.values():
        _check_kinds(root, manifest, formula)
    return manifest


def _check_kinds(root: Table, manifest: Manifest, formula: Formula) -> None:
    try:
        check_kinds(
            formula.statements,
            holes=formula.holes,
            shareable=manifest.shareable,
            confidential=manifest.confidential,
        )
    except BadInput as exc:
        raise root.error(
            f"operations.{formula.operation}.formulas.{formula.name}.formula",
            f"a formula that holds together: {exc.message}",
        ) from exc


def _read(data: bytes) -> Table:
    if len(data) > MAX_MANIFEST_BYTES:
        raise BadInput(f"manifest: larger than {MAX_MANIFEST_BYTES} bytes", field="manifest")
    try:
        return Table(tomllib.loads(data.decode()), "manifest")
    except UnicodeDecodeError as exc:
        raise BadInput("manifest: not UTF-8", field="manifest") from exc
    except (tomllib.TOMLDecodeError, RecursionError) as exc:
        raise BadInput(f"manifest: not TOML: {exc}", field="manifest") from exc


def _all_formulas(root: Table, operations: Mapping[str, Operation]) -> dict[str, Formula]:
    formulas: dict[str, Formula] = {}
    for operation in operations.values():
        for formula in operation.formulas:
            if formula.name in formulas:
                raise root.error(
                    f"operations.{operation.name}.formulas",
                    f"a name other than {formula.name!r}, which is taken",
                )
            formulas[formula.name] = formula
    return formulas


def _shareable(name: str, table: Table) -> ShareableField:
    result = ShareableField(
        name=name,
        summary=table.text("summary", ".{1,200}"),
        pattern=table.pattern("pattern"),
        optional=table.flag("optional", default=False),
    )
    table.finish()
    return result


def _confidential(name: str, table: Table) -> ConfidentialField:
    alphabet = table.pattern("alphabet")
    if (alphabet.min_width, alphabet.max_width) != (1, 1):
        raise table.error("alphabet", "one character class, as '[A-Za-z0-9]'")
    lo, hi = table.span("length", 1, MAX_SECRET_CHARS)
    result = ConfidentialField(
        name=name,
        summary=table.text("summary", ".{1,200}"),
        type=FieldType(table.choice("type", [kind.value for kind in FieldType])),
        strength=Strength(table.choice("strength", [kind.value for kind in Strength])),
        alphabet=alphabet,
        min_chars=lo,
        max_chars=hi,
    )
    bits = lo * math.log2(alphabet.alphabet.bit_count())
    if result.strength is Strength.GENERATED and bits < MIN_GENERATED_BITS:
        raise table.error(
            "length", f"at least {MIN_GENERATED_BITS} bits for a generated secret; this is {bits:.0f}"
        )
    table.finish()
    return result


def _operation(name: str, table: Table) -> Operation:
    context = tuple(_context_source(text) for text in table.texts("context", _CONTEXT))
    if len({source.name for source in context}) != len(context):
        raise table.error("context", "each name once")
    formulas = tuple(_formula(key, name, inner, context) for key, inner in table.tables("formulas", _NAME))
    if not formulas:
        raise table.error("formulas", "at least one formula")
    for formula in formulas[1:]:
        if any(_cedar_type(formula, source) != _cedar_type(formulas[0], source) for source in context):
            raise table.error("context", "the same types in all formulas of the operation")
    result = Operation(
        name=name, summary=table.text("summary", ".{1,200}"), context=context, formulas=formulas
    )
    table.finish()
    return result


def _context_source(text: str) -> ContextSource:
    hole, _, key = text.rstrip("]").partition("[")
    if key:
        return ContextSource(name=key.lower().replace("-", "_"), hole=hole, key=key)
    return ContextSource(name=hole, hole=None if hole == FORMULA_CONTEXT else hole, key=None)


def _formula(name: str, operation: str, table: Table, context: tuple[ContextSource, ...]) -> Formula:
    text = table.long_text("formula")
    try:
        statements = parse_formula(text)
    except BadInput as exc:
        raise table.error("formula", f"a formula that holds together: {exc.message}") from exc
    holes = {hole: _hole(inner) for hole, inner in table.tables("holes", _NAME)}
    for source in context:
        _check_source(table, source, holes)
    summary = table.text("summary", ".{1,200}")
    table.finish()
    return Formula(
        name=name,
        operation=operation,
        summary=summary,
        text=text,
        statements=statements,
        holes=holes,
        context=context,
    )


def _check_source(table: Table, source: ContextSource, holes: Mapping[str, HoleType]) -> None:
    if source.hole is None:
        return
    kind = holes.get(source.hole)
    if isinstance(kind, ListHole):
        if source.key is None or source.key not in kind.must or not kind.unique or len(kind.columns) < 2:
            raise table.error(
                "holes",
                f"{source.hole!r} unique, with a value column and {source.key!r} in `must`: it is context",
            )
    elif kind is None or source.key is not None:
        raise table.error("holes", f"a hole {source.hole!r} that can supply the context {source.name!r}")


def _cedar_type(formula: Formula, source: ContextSource) -> CedarType:
    kind = formula.holes[source.hole] if source.hole is not None else None
    return "Long" if isinstance(kind, IntHole | TimeHole) else "String"


def _hole(table: Table) -> HoleType:
    kind = table.choice("type", sorted(_HOLES))
    result = _HOLES[kind](table)
    table.finish()
    return result


def _regex_hole(table: Table) -> HoleType:
    return RegexHole(pattern=table.pattern("pattern"))


def _time_hole(table: Table) -> HoleType:
    return TimeHole(skew_s=table.number("skew_s", 1, MAX_SKEW_S, default=DEFAULT_SKEW_S))


def _bytes_hole(table: Table) -> HoleType:
    lo, hi = table.span("length", 0, MAX_BYTES)
    return BytesHole(min_bytes=lo, max_bytes=hi)


def _int_hole(table: Table) -> HoleType:
    lo, hi = table.span("range", 0, MAX_INT)
    return IntHole(lo=lo, hi=hi)


def _list_hole(table: Table) -> HoleType:
    columns = table.pattern_map("columns", _NAME)
    if not columns:
        raise table.error("columns", "at least one column")
    return ListHole(
        columns=columns,
        sorted=table.flag("sorted", default=False),
        unique=table.flag("unique", default=False),
        max_rows=table.number("max", 1, MAX_ROWS, default=None),
        must=table.texts("must", "[!-~]{1,64}"),
        without=frozenset(text.lower() for text in table.texts("without", "[!-~]{1,64}")),
    )


_HOLES: Final[dict[str, Callable[[Table], HoleType]]] = {
    "regex": _regex_hole,
    "time": _time_hole,
    "bytes": _bytes_hole,
    "int": _int_hole,
    "list": _list_hole,
}
