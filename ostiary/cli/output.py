"""All output of the command line: results on stdout, everything else on stderr, as text or JSON.

Rules:
- stdout carries the result and nothing else: with --json one JSON document, otherwise text for people.
- An error is one sentence and, if an operator must act, what to do next; with --json it is the problem
  document (RFC 9457).
- An internal fault shows its message, never values from a traceback. Nothing here prints a secret, because no
  caller passes one.
- Agents and module authors wrote parts of what is shown. A character that controls the terminal or reverses
  the text's direction is shown as its escape, and nothing is taken for markup.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ostiary.cli.invocation import current
from ostiary.errors import Busy, Forbidden, InternalFault, Misconfigured, OstiaryError, Unauthenticated

if TYPE_CHECKING:
    from rich.console import RenderableType

T = TypeVar("T")

# What the operator can do next; messages of Misconfigured and BadInput say it themselves.
_NEXT: dict[type[OstiaryError], str] = {
    Unauthenticated: "ask the operator for a new token, or renew the certificate",
    Forbidden: "ask the operator, naming the rule",
    Busy: "try again; if that does not help, see the service's log and `ostiary doctor`",
    InternalFault: "this is a fault of ostiary; see the service's log for details",
}


def emit(value: Any, *, human: RenderableType | None = None) -> None:
    """Write a command's result: `value` as JSON with --json, else `human`, a string or what rich can draw."""
    if current().json or human is None:
        indent = None if current().json else 2
        text = json.dumps(value, ensure_ascii=False, indent=indent)
        # JSON escapes control characters itself, but not those that reverse direction (CVE-2021-42574,
        # "Trojan Source"): a document that has any is written in ASCII.
        click.echo(text if plain(text) == text else json.dumps(value, indent=indent))
    elif isinstance(human, str):
        click.echo(plain(human))
    else:
        from rich.console import Console

        Console(markup=False, emoji=False).print(human)


def note(text: str) -> None:
    """Tell a person on stderr what is happening; does nothing with --json."""
    if not current().json:
        click.echo(plain(text), err=True)


def plain(text: str) -> str:
    """Return the text with every character escaped but printable ones, line ends and tabs."""
    # str.isprintable excludes Unicode's categories Cc, Cf (direction marks), Cs, Co and all spaces but
    # U+0020.
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() or each in "\n\t" else _escaped(each) for each in text)


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> RenderableType:
    """Return rows as a table for people: the named columns in that order, with spaces for underscores."""
    # rich takes longer to import than most commands run, so only those that draw something import it.
    from rich import box
    from rich.table import Table

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        drawn.add_row(*("" if row.get(column) is None else plain(str(row[column])) for column in columns))
    return drawn


def track(runs: Iterable[Sequence[T]], *, description: str, total: int | None) -> Iterator[T]:
    """Yield the items of all runs and show a progress bar on stderr; none with --json or without a terminal.

    The bar moves once a run: to count a million items one by one takes longer than to hash them.
    """
    if not current().json and sys.stderr.isatty():
        runs = _drawn(runs, description=description, total=total)
    return chain.from_iterable(runs)


def _drawn(runs: Iterable[Sequence[T]], *, description: str, total: int | None) -> Iterator[Sequence[T]]:
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        for run in runs:
            yield run
            progress.advance(task, len(run))


def report(error: OstiaryError, *, as_json: bool) -> None:
    """Write an error, as text or as a problem document."""
    if as_json:
        # The same map as on the wire. Imported here, because most commands end without an error.
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
    """Write what click found wrong in the command line."""
    if as_json:
        document = {"type": "urn:ostiary:problem:usage", "title": "usage", "detail": error.format_message()}
        click.echo(json.dumps(document, ensure_ascii=False), err=True)
    else:
        error.show()
