r"""The notation of formulas: text to a frozen tree (docs/adr/0003-formula-notation.md).

    formula    = one statement a line
    statement  = binding "=" expression | way sink "=" expression
    way        = "release" | "send" | "verify" | "disclose"
    expression = term {term}                     juxtaposition is concatenation
    term       = 'text' | number | $hole[.format] | @shareable | !confidential | #state | .column
               | binding | function(expression, ...)

Rules:
- Literals are ASCII; escapes are `\n \r \t \\ \' \xHH` (up to 7f). Numbers stand only where a count is wanted
  (pbkdf2).
- A name is bound once, on an earlier line than its use. There is no recursion, no conditional and one loop.
- Places do not take part in equality, and printing what was parsed gives the same tree again
  (tests/credsvc/formula/test_notation.py).

Leaves to others: which holes, fields and columns exist (`kinds.py`), what a secret may flow into
(`approve.py`). A new function needs an ADR.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, cast
from typing import Literal as OneOf

from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Iterator

# SigV4's longest formula has 11 lines of at most 250 characters, nested 6 deep, and a person reads all of it.
MAX_LINES: Final = 64
MAX_LINE_CHARS: Final = 2000
# Every walk over a tree recurses; 24 levels, times a few frames each, stay far below Python's 1,000.
MAX_DEPTH: Final = 24

OutputKind = OneOf["release", "send", "verify", "disclose"]
OUTPUT_KINDS: Final = ("release", "send", "verify", "disclose")

# Function to number of arguments; an algorithm in front does not count.
FUNCTIONS: Final = {
    "hex": 1,
    "b64": 1,
    "b64url": 1,
    "pct": 1,
    "json": 1,
    "md5": 1,
    "sha1": 1,
    "sha256": 1,
    "sha512": 1,
    "hmac": 2,
    "sign": 2,
    "pbkdf2": 4,
    "xor": 2,
    "join": 3,
    "equal": 2,
}
HASHES: Final = ("md5", "sha1", "sha256", "sha512")
# Functions whose first argument names an algorithm, and the names they take.
ALGORITHMS: Final = {
    "hmac": HASHES,
    "pbkdf2": HASHES,
    "sign": ("rsa-sha1", "rsa-sha256", "ecdsa-sha256", "ed25519"),
}


class At(NamedTuple):
    """A place in a formula's text, counted from 1."""

    line: int
    column: int

    def __str__(self) -> str:
        return f"line {self.line}, column {self.column}"


NOWHERE: Final = At(0, 0)
"""The place of an expression that no text was read for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A literal."""

    text: str
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Number:
    """A count: iterations or octets of pbkdf2."""

    value: int
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hole:
    """`$name` or `$name.format`: a blank that the module fills."""

    name: str
    format: str | None = None
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shareable:
    """`@name`: a public field of the credential."""

    name: str
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confidential:
    """`!name`: a secret field of the credential."""

    name: str
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """`#name`: what an earlier step of a conversation left."""

    name: str
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """`.name`: a column of the list that the enclosing join runs over."""

    name: str
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """A name bound on an earlier line."""

    name: str
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of the closed set, applied."""

    function: str
    algorithm: str | None = None
    arguments: tuple[Expression, ...]
    at: At = field(default=NOWHERE, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Concatenation:
    """Two or more terms, one after the other."""

    terms: tuple[Expression, ...]
    at: At = field(default=NOWHERE, compare=False)


Expression = Text | Number | Hole | Shareable | Confidential | State | Column | Binding | Call | Concatenation


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """`name = expression`."""

    name: str
    expression: Expression
    line: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """`release sink = expression` and its kin: a way out."""

    kind: OutputKind
    sink: str
    expression: Expression
    line: int = field(default=0, compare=False)


Statement = Bind | Output

_NAME = r"[a-z][a-z0-9_]*"
# A sink is a header's or parameter's name (RFC 9110 section 5.1), without the marks that no provider uses.
_OUTPUT_LINE = re.compile(r"(release|send|verify|disclose)[ \t]+([A-Za-z][A-Za-z0-9._-]*)[ \t]*=(.*)")
_BIND_LINE = re.compile(rf"({_NAME})[ \t]*=(.*)")
# A name may hold hyphens because algorithms do (`rsa-sha256`); bindings are checked by `_BIND_LINE`.
_TOKEN = re.compile(
    r"(?P<space>[ \t]+)"
    # Printable ASCII but for the quotation mark and the backslash, or an escape.
    r"|(?P<text>'(?:[ -&(-\[\]-~]|\\(?:[nrt\\']|x[0-7][0-9a-f]))*')"
    r"|(?P<number>[0-9]{1,9})"
    rf"|(?P<hole>\$({_NAME})(?:\.({_NAME}))?)"
    rf"|(?P<field>[@!#.]{_NAME})"
    rf"|(?P<name>{_NAME}(?:-[a-z0-9]+)*)"
    r"|(?P<mark>[(),])"
)
# The marks of factotum where it had them: `!` before what is secret (Cox et al., "Security in Plan 9", 2002).
_FIELDS: Final[dict[str, type[Shareable | Confidential | State | Column]]] = {
    "@": Shareable,
    "!": Confidential,
    "#": State,
    ".": Column,
}
_ESCAPE = re.compile(r"\\(?:x(..)|(.))")
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "\\": "\\", "'": "'"}


def parse_formula(text: str) -> tuple[Statement, ...]:
    """Read a formula's statements in order; BadInput names line and column, and what was wanted."""
    lines = text.split("\n")
    if len(lines) > MAX_LINES:
        raise BadInput(f"a formula may have at most {MAX_LINES} lines")
    statements: list[Statement] = []
    bound: set[str] = set()
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        statement = _parse_line(line, number, bound)
        if isinstance(statement, Bind):
            bound.add(statement.name)
        statements.append(statement)
    if not any(isinstance(statement, Output) for statement in statements):
        raise BadInput("a formula must have a way out: a line that begins with release, send or verify")
    return tuple(statements)


def children(expression: Expression) -> tuple[Expression, ...]:
    """The expressions directly below this one."""
    match expression:
        case Call(arguments=arguments):
            return arguments
        case Concatenation(terms=terms):
            return terms
        case _:
            return ()


def walk(expression: Expression) -> Iterator[Expression]:
    """This expression and all below it, not following bindings."""
    yield expression
    for child in children(expression):
        yield from walk(child)


def _parse_line(line: str, number: int, bound: set[str]) -> Statement:
    if len(line) > MAX_LINE_CHARS:
        raise BadInput(f"line {number}: longer than {MAX_LINE_CHARS} characters")
    indent = len(line) - len(line.lstrip())
    body = line.strip()
    if output := _OUTPUT_LINE.fullmatch(body):
        expression = _Line(output[3], number, indent + output.start(3), bound).parse()
        return Output(kind=cast("OutputKind", output[1]), sink=output[2], expression=expression, line=number)
    bind = _BIND_LINE.fullmatch(body)
    if bind is None:
        raise BadInput(f"line {number}: wanted `name = expression` or `release sink = expression`")
    name = bind[1]
    if name in bound or name in FUNCTIONS or name in OUTPUT_KINDS:
        raise BadInput(f"line {number}: the name {name!r} is taken")
    return Bind(
        name=name, expression=_Line(bind[2], number, indent + bind.start(2), bound).parse(), line=number
    )


class _Line:
    """Recursive descent over one expression; `bound` are the names of earlier lines."""

    def __init__(self, text: str, line: int, offset: int, bound: set[str]) -> None:
        self._line = line
        self._bound = bound
        self._tokens = list(self._tokenize(text, offset))
        self._end = At(line, offset + len(text) + 1)
        self._next = 0

    def parse(self) -> Expression:
        expression = self._expression(0)
        if self._next < len(self._tokens):
            self._fail(f"{self._tokens[self._next][1]!r} is unexpected here")
        return expression

    def _tokenize(self, text: str, offset: int) -> Iterator[tuple[str, str, At]]:
        index = 0
        while index < len(text):
            match = _TOKEN.match(text, index)
            at = At(self._line, offset + index + 1)
            if match is None:
                raise BadInput(f"{at}: unexpected character")
            if match.lastgroup != "space":
                yield cast("str", match.lastgroup), match[0], at
            index = match.end()

    def _fail(self, what: str) -> NoReturn:
        at = self._tokens[self._next][2] if self._next < len(self._tokens) else self._end
        raise BadInput(f"{at}: {what}")

    def _next_is(self, mark: str) -> bool:
        return self._next < len(self._tokens) and self._tokens[self._next][1] == mark

    def _take_mark(self, mark: str) -> None:
        if not self._next_is(mark):
            self._fail(f"wanted {mark!r}")
        self._next += 1

    def _expression(self, depth: int) -> Expression:
        if depth > MAX_DEPTH:
            self._fail(f"nested deeper than {MAX_DEPTH}")
        terms: list[Expression] = []
        while self._next < len(self._tokens) and self._tokens[self._next][1] not in {",", ")"}:
            terms.append(self._term(depth))
        if not terms:
            self._fail("wanted a term")
        if len(terms) == 1:
            return terms[0]
        return Concatenation(terms=tuple(terms), at=terms[0].at)

    def _term(self, depth: int) -> Expression:
        group, text, at = self._tokens[self._next]
        if group == "name":
            return self._named(text, at, depth)
        if group == "mark":
            self._fail(f"{text!r} is unexpected here")
        self._next += 1
        if group == "text":
            return Text(text=_unescape(text[1:-1]), at=at)
        if group == "number":
            return Number(value=int(text), at=at)
        if group == "hole":
            name, _, form = text[1:].partition(".")
            return Hole(name=name, format=form or None, at=at)
        return _FIELDS[text[0]](name=text[1:], at=at)

    def _named(self, name: str, at: At, depth: int) -> Expression:
        if name in FUNCTIONS:
            self._next += 1
            return self._call(name, at, depth)
        if name not in self._bound:
            self._fail(f"the name {name!r} is neither bound on an earlier line nor a function")
        self._next += 1
        return Binding(name=name, at=at)

    def _call(self, function: str, at: At, depth: int) -> Expression:
        self._take_mark("(")
        algorithm = self._algorithm(function) if function in ALGORITHMS else None
        arguments = [self._expression(depth + 1)]
        while self._next_is(","):
            self._next += 1
            arguments.append(self._expression(depth + 1))
        self._take_mark(")")
        if len(arguments) != FUNCTIONS[function]:
            self._fail(f"{function} takes {FUNCTIONS[function]} arguments, not {len(arguments)}")
        return Call(function=function, algorithm=algorithm, arguments=tuple(arguments), at=at)

    def _algorithm(self, function: str) -> str:
        wanted = ALGORITHMS[function]
        if self._next >= len(self._tokens) or self._tokens[self._next][1] not in wanted:
            self._fail(f"{function} takes an algorithm as its first argument: {', '.join(wanted)}")
        algorithm = self._tokens[self._next][1]
        self._next += 1
        self._take_mark(",")
        return algorithm


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: chr(int(match[1], 16)) if match[1] else _ESCAPED[match[2]], text)
