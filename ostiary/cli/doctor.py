"""`ostiary doctor`: this machine's abilities, what it lacks, and what replaces that.

Exit code 1 only if something is missing that nothing replaces.
"""

from __future__ import annotations

import click

from ostiary.cli import output
from ostiary.edge.machine import ABILITIES, Ability, Finding, Level, examine

_MARKS = {Level.FULL: "ok", Level.REDUCED: "reduced", Level.MISSING: "missing"}


@click.command()
@click.pass_context
def doctor(context: click.Context) -> None:
    """Show what this machine can do, what it lacks, and what replaces that."""
    findings = [(ability, examine(ability)) for ability in ABILITIES]
    fatal = [
        ability.name
        for ability, finding in findings
        if finding.level is Level.MISSING and ability.without is None
    ]
    output.emit(
        {"usable": not fatal, "abilities": [_row(*pair) for pair in findings]},
        human=output.table([_line(*pair) for pair in findings], ("ability", "state", "what")),
    )
    output.note(
        f"missing, with no replacement: {', '.join(fatal)}" if fatal else "this machine can run ostiary"
    )
    context.exit(1 if fatal else 0)


def _row(ability: Ability, finding: Finding) -> dict[str, str | None]:
    return {
        "name": ability.name,
        "level": finding.level.value,
        "seen": finding.seen,
        "needed_for": ability.needed_for,
        "without": ability.without,
    }


def _line(ability: Ability, finding: Finding) -> dict[str, str]:
    what = f"for {ability.needed_for}"
    if finding.level is not Level.FULL:
        what = f"{what}\ninstead: {ability.without or 'nothing'}"
    return {"ability": ability.name, "state": f"{_MARKS[finding.level]} ({finding.seen})", "what": what}
