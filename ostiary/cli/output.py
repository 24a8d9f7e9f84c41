"""The one place where the command line speaks: results on stdout, everything else on stderr, in text or JSON.

Rules:
- stdout carries the result and nothing else: with --json one JSON document, otherwise text for people.
- An error is one sentence and, where an operator must act, what to do next; with --json the problem document
  (RFC 9457).
- Internal faults show their message, never a traceback's values; nothing here prints a secret, because none
  is passed in.
- What is shown was written by others (agents, module authors): a character that would steer the terminal or
  turn the text's direction is written as its escape, and nothing is markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ostiary.cli.invocation import current
from ostiary.errors import Busy, Forbidden, InternalFault, Misconfigured, OstiaryError, Unauthenticated

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")

# What to do next, by who must act; a message that already says it stays alone (Misconfigured, BadInput).
_NEXT: dict[type[OstiaryError], str] = {
    Unauthenticated: "ask the operator for a new token, or renew the certificate",
    Forbidden: "ask the operator, naming the rule",
    Busy: "try again; if it stays so, look at the service's log and `ostiary doctor`",
    InternalFault: "this is a fault of ostiary; the service's log has the details",
}


def emit(value: Any, *, human: RenderableType | None = None) -> None:
    """Write a command's result: `value` as JSON with --json, else `human` (a string or anything rich can
    draw).
    """
    if current().json or human is None:
        indent = None if current().json else 2
        text = json.dumps(value, ensure_ascii=False, indent=indent)
        click.echo(text if plain(text) == text else json.dumps(value, indent=indent))
    elif isinstance(human, str):
        click.echo(plain(human))
    else:
        from rich.console import Console

        Console(markup=False, emoji=False).print(human)


def note(text: str) -> None:
    """Tell a person what is going on, on stderr; silent with --json."""
    if not current().json:
        click.echo(plain(text), err=True)


def plain(text: str) -> str:
    """The text with everything but printable characters, line ends and tabs written as Python escapes."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> RenderableType:
    """Rows for people: the named columns, in that order, underscores read as spaces."""
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        drawn.add_row(*("" if row.get(column) is None else plain(str(row[column])) for column in columns))
    return drawn


def track(work: Iterable[T], *, description: str, total: int | None = None) -> Iterable[T]:
    """The same items, with a progress bar on stderr while they are worked through; none with --json or off a
    terminal.
    """
    if current().json or not sys.stderr.isatty():
        return work
    from rich.console import Console
    from rich.progress import track as draw

    return draw(work, description=description, total=total, console=Console(stderr=True), transient=True)


def report(error: OstiaryError, *, as_json: bool) -> None:
    """Write an error where the caller looks for it."""
    if as_json:
        # The same mapping as over the wire; imported late, because most commands end without an error.
        import msgspec

        from ostiary.edge.problems import problem_of

        click.echo(msgspec.json.encode(problem_of(error, audience="operator", instance="")), err=True)
        return
    lines = [f"error: {error.message}"]
    if error.field is not None and not isinstance(error, Misconfigured):
        lines.append(f"  field: {error.field}")
    if isinstance(error, Forbidden):
        lines.append(f"  rule: {error.rule}")
    if type(error) in _NEXT:
        lines.append(f"  next: {_NEXT[type(error)]}")
    click.echo(plain("\n".join(lines)), err=True)


def report_usage(error: click.ClickException, *, as_json: bool) -> None:
    """Write what click found wrong with the command line."""
    if as_json:
        document = {"type": "urn:ostiary:problem:usage", "title": "usage", "detail": error.format_message()}
        click.echo(json.dumps(document, ensure_ascii=False), err=True)
    else:
        error.show()
