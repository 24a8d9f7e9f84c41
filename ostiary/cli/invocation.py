"""The settings of one call of the command line: the home directory and the form of the output.

Rules:
- Every level accepts `--home` and `--json` (`ostiary --json ca ...` and `ostiary ca ... --json` mean the
  same); the innermost one wins. `ostiary.cli.root` adds them, so a group of commands declares neither.
- A command that needs a home calls `home()`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import click

HOME_VARIABLE = "OSTIARY_HOME"


@dataclass(slots=True, kw_only=True)
class Invocation:
    """One call. click's option callbacks fill it while they parse the arguments; commands only read it."""

    environ: Mapping[str, str]
    home: Path | None = None
    json: bool = False


def current() -> Invocation:
    """Return the invocation of the running command; outside the command line, a default one."""
    context = click.get_current_context(silent=True)
    found = context.find_object(Invocation) if context is not None else None
    return found if found is not None else Invocation(environ=os.environ)


def home() -> Path:
    """Return the absolute home directory from --home or OSTIARY_HOME, which need not exist yet.

    A usage error if neither is given.
    """
    invocation = current()
    from_environment = invocation.environ.get(HOME_VARIABLE)
    path = invocation.home or (Path(from_environment) if from_environment else None)
    if path is None:
        raise click.UsageError(f"no home directory: give --home DIR or set {HOME_VARIABLE}")
    # `absolute` and not `resolve`: a link to the home stays in messages and processes as the operator gave
    # it.
    return path.absolute()


def _set_home(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).home = value


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).json = True


def everywhere_options() -> list[click.Option]:
    """Return new --home and --json options."""
    # Eager (click evaluates them first), so that an error in any other argument already has the right form.
    # New ones for each command, because click keeps state of its own in a parameter.
    return [
        click.Option(
            ["--home"],
            type=click.Path(path_type=Path, file_okay=False),
            metavar="DIR",
            help=f"Where this installation keeps its state (or {HOME_VARIABLE}).",
            expose_value=False,
            is_eager=True,
            callback=_set_home,
        ),
        click.Option(
            ["--json"],
            is_flag=True,
            help="Print results and errors as JSON.",
            expose_value=False,
            is_eager=True,
            callback=_set_json,
        ),
    ]
