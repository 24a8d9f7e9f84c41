"""The check of a module's proposal: holes against types, ceiling and clock; what comes out are values and the
context that policy decides on.

The plan of `check_holes`:
1. The formula belongs to the operation asked for.
2. The holes are exactly those declared.
3. Each fits its type, and a time lies within its skew of `now`.
4. Each name of the credential's ceiling is a hole or a context name of the formula, and its value matches one
   of the patterns there; a formula that can't be held to a ceiling is refused.

A ceiling maps a name to patterns in which `*` stands for any run of characters; nothing else is special. The
front calls this with its clock for early, good errors; the keyholder calls it with its own, and relies on
nobody else's answer. `now` None skips the clock of step 3: for vectors and tests, never for a use.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from credsvc.formula.types import BytesHole, Filled, HoleType, IntHole, ListHole, RegexHole, TimeHole, fill
from ostiary.errors import BadInput, Forbidden

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from credsvc.formula.manifest import ContextSource, Formula, Manifest

# A host name has at most 253 characters (RFC 1035 section 2.3.4), and is the longest thing that ceilings
# name.
MAX_PATTERN_CHARS: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FilledHoles:
    """The checked holes of one formula, and the context that policy decides on. All of it is public."""

    formula: Formula
    values: Mapping[str, Filled]
    context: Mapping[str, str | int]


def check_holes(
    manifest: Manifest,
    formula_name: str,
    holes: Mapping[str, object],
    *,
    operation: str | None,
    now: datetime | None,
    ceiling: Mapping[str, Sequence[str]],
) -> FilledHoles:
    """Check the proposal (`formula_name`, `holes`); `operation` None accepts the formula of any operation.

    BadInput(field="holes.<name>" or "formula") where a value is outside its type, Forbidden(rule="ceiling")
    where it is outside the credential's ceiling. Not checked: policy.
    """
    # 1.
    formula = manifest.formula(formula_name, operation=operation)
    # 2.
    _check_names(formula, holes)
    # 3.
    values = {name: fill(name, kind, holes[name], now) for name, kind in formula.holes.items()}
    context = {source.name: _context_value(formula, source, values) for source in formula.context}
    # 4.
    for name, patterns in ceiling.items():
        _check_ceiling(formula, name, patterns, values, context)
    return FilledHoles(formula=formula, values=values, context=context)


def is_match(pattern: str, value: str) -> bool:
    """Whether `value` is `pattern` with each `*` replaced by some run of characters.

    Greedy and without backtracking, so that no pattern is slow: one search for each `*`. (fnmatch builds a
    regular expression, and gives `?` and `[` a meaning that a ceiling must not have.)
    """
    head, *middle = pattern.split("*")
    if not middle:
        return value == pattern
    tail = middle.pop()
    if not value.startswith(head) or not value.endswith(tail) or len(value) < len(head) + len(tail):
        return False
    at, end = len(head), len(value) - len(tail)
    for part in middle:
        # The leftmost place is as good as any later one: it leaves the most for the parts behind it.
        found = value.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


def check_ceiling_names(manifest: Manifest, ceiling: Mapping[str, Sequence[str]]) -> None:
    """Check that a ceiling to be sealed makes sense: each name is a hole or context of some formula.

    BadInput(field="ceiling.<name>") otherwise.

    A formula that lacks one of the names can't be held to it and is refused at each use: a ceiling narrows,
    never widens.
    """
    for name, patterns in ceiling.items():
        if not patterns or not all(0 < len(pattern) <= MAX_PATTERN_CHARS for pattern in patterns):
            raise BadInput(
                f"ceiling {name!r}: wanted patterns of 1 to {MAX_PATTERN_CHARS} characters",
                field=f"ceiling.{name}",
            )
        if not any(_can_hold(formula, name) for formula in manifest.formulas.values()):
            raise BadInput(
                f"ceiling {name!r}: module {manifest.name!r} has no such hole or context",
                field=f"ceiling.{name}",
            )


# Lists are named by a row (`headers[host]`), through the context; a time has its skew.
def _can_hold(formula: Formula, name: str) -> bool:
    kind = formula.holes.get(name)
    return any(source.name == name for source in formula.context) or isinstance(
        kind, RegexHole | IntHole | BytesHole
    )


def _check_names(formula: Formula, holes: Mapping[str, object]) -> None:
    if holes.keys() == formula.holes.keys():
        return
    for name in formula.holes:
        if name not in holes:
            raise BadInput(f"hole {name!r} is missing", field=f"holes.{name}")
    # The name is the module's, and may be anything: it is not repeated.
    raise BadInput(f"formula {formula.name!r}: unknown hole", field="holes")


def _context_value(formula: Formula, source: ContextSource, values: Mapping[str, Filled]) -> str | int:
    if source.hole is None:
        return formula.name
    value = values[source.hole]
    if isinstance(value, tuple):
        # The row is there: the manifest has the key in `must`, and the list is `unique` (`manifest_toml.py`).
        key = (source.key or "").encode()
        return next(row[1] for row in value if row[0] == key).decode()
    return _as_public(formula.holes[source.hole], value)


def _as_public(kind: HoleType, value: bytes | int) -> str | int:
    if isinstance(value, int):
        return value
    return value.hex() if isinstance(kind, BytesHole) else value.decode()


def _check_ceiling(
    formula: Formula,
    name: str,
    patterns: Sequence[str],
    values: Mapping[str, Filled],
    context: Mapping[str, str | int],
) -> None:
    value: object = context.get(name)
    if value is None and not isinstance(formula.holes.get(name), ListHole | TimeHole | None):
        filled = values[name]
        value = None if isinstance(filled, tuple) else _as_public(formula.holes[name], filled)
    # A name that this formula lacks is refused like a value outside: a ceiling only ever narrows.
    if value is None or not any(is_match(pattern, str(value)) for pattern in patterns):
        raise Forbidden(
            f"{name!r} is outside the credential's ceiling", rule="ceiling", field=f"holes.{name}"
        )
