"""A parsed formula as text again, for the property that parsing what was printed is the identity."""

from __future__ import annotations

from typing import Final, assert_never

from credsvc.formula.notation import (
    Bind,
    Binding,
    Call,
    Column,
    Concatenation,
    Confidential,
    Expression,
    Hole,
    Number,
    Shareable,
    State,
    Statement,
    Text,
)

_UNESCAPED: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t", "\\": "\\\\", "'": "\\'"}


def print_formula(statements: tuple[Statement, ...]) -> str:
    """The statements as text, one a line."""
    return "\n".join(_print_statement(statement) for statement in statements)


def print_expression(expression: Expression) -> str:
    """One expression as it would stand in a formula."""
    match expression:
        case Text(text=text):
            return "'" + "".join(_print_character(character) for character in text) + "'"
        case Number(value=value):
            return str(value)
        case Hole(name=name, format=None):
            return "$" + name
        case Hole(name=name, format=form):
            return f"${name}.{form}"
        case Binding(name=name):
            return name
        case Call(function=function, algorithm=algorithm, arguments=arguments):
            shown = [*([algorithm] if algorithm else []), *map(print_expression, arguments)]
            return f"{function}({', '.join(shown)})"
        case Concatenation(terms=terms):
            return " ".join(map(print_expression, terms))
        case _:
            return _print_field(expression)


def _print_statement(statement: Statement) -> str:
    head = statement.name if isinstance(statement, Bind) else f"{statement.kind} {statement.sink}"
    return f"{head} = {print_expression(statement.expression)}"


def _print_field(expression: Shareable | Confidential | State | Column) -> str:
    match expression:
        case Shareable(name=name):
            return "@" + name
        case Confidential(name=name):
            return "!" + name
        case State(name=name):
            return "#" + name
        case Column(name=name):
            return "." + name
        case _:
            assert_never(expression)


def _print_character(character: str) -> str:
    known = _UNESCAPED.get(character)
    return known or (character if " " <= character <= "~" else f"\\x{ord(character):02x}")
