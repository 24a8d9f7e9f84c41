"""What holds for a whole call of the command line: the home directory and who reads the output.

Rules:
- `--home` and `--json` are taken at every level (`ostiary --json ca ...` and `ostiary ca ... --json` mean the
  same); the innermost one wins. `root.LazyGroup` adds them, so a group of commands declares neither.
- A command that needs a home asks `home()`; nobody else reads OSTIARY_HOME.
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
    """One call; click's option callbacks fill it while the arguments are read, commands only read it."""

    environ: Mapping[str, str]
    home: Path | None = None
    json: bool = False


def current() -> Invocation:
    """The invocation of the running command; a default one outside the command line (in tests of single
    functions).
    """
    context = click.get_current_context(silent=True)
    found = context.find_object(Invocation) if context is not None else None
    return found if found is not None else Invocation(environ=os.environ)


def home() -> Path:
    """The absolute home directory from --home or OSTIARY_HOME; it need not exist yet. A usage error when
    neither is given.
    """
    invocation = current()
    from_environment = invocation.environ.get(HOME_VARIABLE)
    path = invocation.home or (Path(from_environment) if from_environment else None)
    if path is None:
        raise click.UsageError(f"no home directory: give --home DIR or set {HOME_VARIABLE}")
    return path.absolute()


def _set_home(context: click.Context, _parameter: click.Parameter, value: Path | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).home = value


def _set_json(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Invocation).json = True


def everywhere_options() -> list[click.Option]:
    """Fresh --home and --json options; eager, so that an error in a later argument is already told in the
    right form.
    """
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
            help="Results and errors as JSON.",
            expose_value=False,
            is_eager=True,
            callback=_set_json,
        ),
    ]
