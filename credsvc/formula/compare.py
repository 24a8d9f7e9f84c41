"""Two questions about messages, answered on the safe side: can two of them be equal, and can one be read back
into its blanks?

`may_equal` says no only where no filling of the holes can make two messages equal. One-way functions are
taken as injective, and apart from each other. The plan walks both messages in step, from the front:

1. two literals agree as far as the shorter one goes, or the messages differ;
2. two function values that are aligned differ where their functions or their arguments do;
3. the same constant of the credential on both sides is the same text;
4. two pieces that both have a first character differ where their first characters do;
5. what comes before a mark (a character that nothing before it can contain) is a segment: two segments differ
   by width, by pattern or by the keys of a list, and the walk goes on behind them;
6. without a mark, the rest of both messages is one segment each;
7. what is left over at the end must be able to be empty.

`is_separable` says yes only where a reader can tell in one way which part of a message came from which blank:

1. a blank of known width ends by its width;
2. a blank before nothing but known widths ends where those begin, counted from the end;
3. any other blank is followed by a character outside it, or says itself where it ends (a JSON string);
4. the rows of a list are glued by a character that they and what follows them cannot hold.

Both are questions about regular languages: `may_equal` asks whether an intersection is empty, `is_separable`
whether a product of an automaton with itself has a string of two readings (Hopcroft and Ullman, "Introduction
to Automata Theory, Languages, and Computation", 1979, sections 3.2 and 3.3; Brzozowski, "Derivatives of
Regular Expressions", Journal of the ACM 11(4), 1964). The walk builds no automata, so that a keyholder can
afford it: it decides less, and what it does not decide is refused. Its answers are tested against all
fillings over small alphabets (tests/credsvc/formula/test_compare.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from credsvc.formula.notation import Call, Column, Expression
from credsvc.formula.pattern import mask_of
from credsvc.formula.shape import ONE_WAY, Atom, first_of, literal, total_width

if TYPE_CHECKING:
    from collections.abc import Sequence


def is_separable(atoms: Sequence[Atom]) -> bool:
    """Whether the pieces can be read back in one way."""
    return find_unbounded(atoms) is None


def find_unbounded(atoms: Sequence[Atom]) -> Atom | None:
    """The first piece whose end a reader could not tell, or None."""
    for index, atom in enumerate(atoms):
        rest = atoms[index + 1 :]
        # 4.
        if atom.source == "rows":
            if not _are_rows_separable(atom, first_of(rest)):
                return atom
        # 1, 2, 3.
        elif not atom.is_settled and not all(other.is_settled for other in rest) and not _ends_at(atom, rest):
            return atom
    return None


def _ends_at(atom: Atom, rest: Sequence[Atom]) -> bool:
    # A JSON string ends at its first bare quotation mark (RFC 8259 section 7).
    if isinstance(atom.expression, Call) and atom.expression.function == "json":
        return True
    return not atom.alphabet & first_of(rest)


def _are_rows_separable(rows: Atom, follow: int) -> bool:
    # With no glue, a row ends where the next one can begin.
    glue = mask_of(rows.glue[:1])
    again = glue or first_of(rows.template)
    if again & follow or not rows.template:
        return False
    last = rows.template[-1]
    if not last.is_settled and last.alphabet & (again | follow):
        return False
    # One row is a message of its own, whose last blank is followed by the glue.
    return is_separable((*rows.template, literal(rows.glue)) if rows.glue else rows.template)


def may_equal(left: Sequence[Atom], right: Sequence[Atom]) -> bool:
    """Whether some filling of the holes can make the two messages equal; False is a proof, True is not."""
    a, b = list(left), list(right)
    while a and b:
        step = _step(a, b)
        if step is not None:
            return step
    # 7.
    rest = a or b
    return total_width(rest)[0] == 0


def _step(a: list[Atom], b: list[Atom]) -> bool | None:
    """Drop what is aligned from the front of both; True or False where that settles it, else None."""
    one, two = a[0], b[0]
    # 1.
    if one.source == two.source == "literal":
        size = min(len(one.text), len(two.text))
        if one.text[:size] != two.text[:size]:
            return False
        _drop_text(a, size)
        _drop_text(b, size)
        return None
    # 2. Values are aligned where both have one width, or stand alone; otherwise the end of one could be the
    # beginning of the other.
    is_aligned = one.lo == one.hi == two.lo == two.hi or len(a) == len(b) == 1
    if one.source == two.source == "value" and is_aligned:
        if not _may_values_equal(one, two):
            return False
        del a[0], b[0]
        return None
    # 3.
    if one.source == two.source == "constant" and one.expression == two.expression:
        del a[0], b[0]
        return None
    # 4.
    if one.lo and two.lo and not one.first & two.first:
        return False
    return _step_segment(a, b)


def _step_segment(a: list[Atom], b: list[Atom]) -> bool | None:
    # 5.
    for mark in _marks(a) + _marks(b):
        one, two = _split(a, mark), _split(b, mark)
        if one is None or two is None:
            continue
        if _are_apart(one[0], two[0]):
            return False
        a[:], b[:] = one[1], two[1]
        return None
    # 6.
    if _are_apart(a, b):
        return False
    # Two blanks of one width fill the same places, whatever they hold: go on behind them.
    if a[0].lo == a[0].hi == b[0].lo == b[0].hi and a[0].source != "literal" and b[0].source != "literal":
        del a[0], b[0]
        return None
    return True


def _marks(atoms: Sequence[Atom]) -> list[str]:
    """Characters that may end the first segment: those of the first literal that stands behind something
    else.
    """
    for index, atom in enumerate(atoms):
        if atom.source == "literal" and index > 0:
            # A mark is the first character of a literal or close to it; four tries find `\n`, `/` and `&` in
            # all formulas of the known providers, and bound the work.
            return list(dict.fromkeys(atom.text))[:4]
    return []


def _split(atoms: Sequence[Atom], mark: str) -> tuple[list[Atom], list[Atom]] | None:
    """The pieces before the first `mark` and those from it on; None where a piece before it could
    contain it.
    """
    for index, atom in enumerate(atoms):
        if atom.source == "literal" and mark in atom.text:
            at = atom.text.index(mark)
            head = [literal(atom.text[:at])] if at else []
            return [*atoms[:index], *head], [literal(atom.text[at:]), *atoms[index + 1 :]]
        if atom.source != "literal" and atom.alphabet & mask_of(mark):
            return None
    return None


def _are_apart(a: Sequence[Atom], b: Sequence[Atom]) -> bool:
    """Whether two whole segments can be shown to differ, by width, by pattern or by the keys of a list."""
    # A constant that stands on both sides has one width, whatever it is.
    constants = [atom.expression for atom in a if atom.source == "constant"]
    shared = [atom.expression for atom in b if _take(constants, atom.expression)]
    (a_lo, a_hi), (b_lo, b_hi) = (total_width(_without(side, shared)) for side in (a, b))
    if (a_hi is not None and a_hi < b_lo) or (b_hi is not None and b_hi < a_lo):
        return True
    return _excludes(a, b) or _excludes(b, a)


def _without(atoms: Sequence[Atom], shared: Sequence[Expression]) -> list[Atom]:
    left = list(shared)
    return [atom for atom in atoms if not _take(left, atom.expression)]


def _take(expressions: list[Expression], wanted: Expression) -> bool:
    """Remove one occurrence, and say whether there was one."""
    if wanted not in expressions:
        return False
    expressions.remove(wanted)
    return True


def _excludes(a: Sequence[Atom], b: Sequence[Atom]) -> bool:
    if len(a) != 1 or not b or b[0].source != "literal":
        return False
    if len(b) == 1 and a[0].pattern is not None and a[0].source == "blank":
        return not a[0].pattern.matches(b[0].text)
    return _lacks_key(a[0], b[0].text)


def _lacks_key(rows: Atom, text: str) -> bool:
    """Whether no first row `key mark ...` can begin as `text` does, because the list may not have that key.

    This is what tells SigV4's signed headers from its presigned queries: the list of `sign` is `without` the
    parameters that every presigned query has.
    """
    template = rows.template
    if rows.rows is None or len(template) < 2 or template[1].source != "literal":
        return False
    key_column, mark = template[0], template[1].text[0]
    is_key = isinstance(key_column.expression, Column) and rows.rows.key == key_column.expression.name
    if not is_key or mark not in text or key_column.alphabet & mask_of(mark):
        return False
    key = text.partition(mark)[0]
    return key.lower() in rows.rows.without or not rows.rows.columns[rows.rows.key].matches(key)


def _may_values_equal(one: Atom, two: Atom) -> bool:
    """Whether two aligned function values may be equal: one-way functions and encodings are only where their
    inputs are.
    """
    x, y = one.expression, two.expression
    if not isinstance(x, Call) or not isinstance(y, Call):
        raise AssertionError("a value that is no function's")
    if (x.function, x.algorithm) != (y.function, y.algorithm):
        # An xor of two one-way values is taken as apart from any third; xors do not nest (`approve.py`, rule
        # 3).
        return not {x.function, y.function} <= ONE_WAY | {"xor"}
    # A xor B = C xor D has more solutions than A = C and B = D.
    if x.function == "xor":
        return True
    pairs = zip(one.arguments, two.arguments, strict=True)
    return all(may_equal(left, right) for left, right in pairs)


def _drop_text(atoms: list[Atom], size: int) -> None:
    rest = atoms[0].text[size:]
    atoms[:1] = [literal(rest)] if rest else []
