"""What a credential module is: its fields, operations and formulas, as checked values.

Rules:
- Formula names are unique in the whole manifest, since a module answers with the name alone.
- All formulas of an operation supply the same policy context with the same types; `formula` is a reserved
  context name whose value is the formula's own name, so that policy can tell alternatives apart.
- `Manifest.digest` is the SHA-256 of the bytes as they came: what an approver signs.

Leaves to others: reading the file (`manifest_toml.py`), whether a formula is safe (`approve.py`), the
module's code, the vectors. Format: docs/modules.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec
from msgspec import Meta

from credsvc.formula.pattern import SafePattern
from credsvc.formula.types import FieldType, HoleType, IntHole, Strength, TimeHole, check_span
from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from credsvc.formula.notation import Statement

# What every provider's generated keys have at least, and nobody finds by trying (NIST SP 800-57 part 1, 5.6).
MIN_GENERATED_BITS: Final = 128
# Longer than an RSA-4096 key in PEM, which has about 3,300 characters.
MAX_SECRET_CHARS: Final = 4096
FORMULA_CONTEXT: Final = "formula"

Summary = Annotated[str, Meta(min_length=1, max_length=200)]
CedarType = Literal["String", "Long"]


def cedar_type(formula: Formula, source: ContextSource) -> CedarType:
    """The type that Cedar gives a value of the policy context."""
    kind = formula.holes[source.hole] if source.hole is not None else None
    return "Long" if isinstance(kind, IntHole | TimeHole) else "String"


class ShareableField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A public field of a credential."""

    summary: Summary
    pattern: SafePattern
    optional: bool = False


class ConfidentialField(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A secret field of a credential: its one use, who made it, and its shape; `length` counts characters,
    both ends included.
    """

    summary: Summary
    type: FieldType
    strength: Strength
    alphabet: SafePattern
    length: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(le=MAX_SECRET_CHARS)]]

    def __post_init__(self) -> None:
        check_span("length", self.length)
        if (self.alphabet.min_width, self.alphabet.max_width) != (1, 1):
            raise ValueError("field `alphabet`: wanted one character class, as '[A-Za-z0-9]'")
        # An upper bound: entropy can't be seen in a secret, only excluded by its alphabet and length.
        bits = self.length[0] * math.log2(self.alphabet.alphabet.bit_count())
        if self.strength is Strength.GENERATED and bits < MIN_GENERATED_BITS:
            wanted = f"wanted at least {MIN_GENERATED_BITS} bits for a generated secret; this is {bits:.0f}"
            raise ValueError(f"field `length`: {wanted}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextSource:
    """The source of a value of the policy context: a hole, the row `key` of a list hole, or, where `hole` is
    None, the formula's name.
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
    """One thing that a module can do for an agent: the context that policy decides on, and the formulas that
    do it, as alternatives.
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

    # Compiled formulas are remembered by manifest (`compile.py`), which must cost one digest and not a tree.
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

    def check_shareable(self, values: Mapping[str, str]) -> None:
        """Check that a credential's public fields are exactly those declared; BadInput names the field."""
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

    def check_secret(self, name: str, secret: bytes) -> None:
        """Check that a secret to be put has the declared shape; BadInput never quotes it."""
        field = self.confidential[name]
        lo, hi = field.length
        try:
            text = secret.decode("ascii")
        except UnicodeDecodeError:
            # No field may be empty, so this is refused below, with the same message as any other shape.
            text = ""
        if not (lo <= len(text) <= hi and all(map(field.alphabet.matches, set(text)))):
            wanted = f"wanted {lo} to {hi} characters of {field.alphabet.text}"
            raise BadInput(f"field {name!r}: {wanted}", field=f"confidential.{name}")
