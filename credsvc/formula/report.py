"""What an approver is shown of a manifest beside its text: the refusals of the machine's check, and its notes.

1 guessable     a human's password is behind what is released: whoever sees it can try passwords
2 no-secret     a formula that uses no secret at all
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from credsvc.formula.approve import Finding, find_refusals, finding_at
from credsvc.formula.secrecy import revealed, secrets_in, ways_out
from credsvc.formula.types import Strength

if TYPE_CHECKING:
    from collections.abc import Iterator

    from credsvc.formula.manifest import Manifest
    from credsvc.formula.secrecy import WayOut


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineReport:
    """What the machine found in a manifest; `guessable` names operations."""

    refusals: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    guessable: frozenset[str]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.refusals + self.notes


def report_manifest(manifest: Manifest) -> MachineReport:
    """The machine's check with its notes; a manifest that is refused has none."""
    refusals = find_refusals(manifest)
    notes = () if refusals else tuple(_notes(manifest))
    guessable = {manifest.formulas[note.formula].operation for note in notes if note.rule == "guessable"}
    return MachineReport(refusals=refusals, notes=notes, guessable=frozenset(guessable))


def _notes(manifest: Manifest) -> Iterator[Finding]:
    lines = [line for formula in manifest.formulas.values() for line in ways_out(manifest, formula)]
    yield from _guessable(manifest, lines)
    yield from _no_secret(manifest, lines)


def _guessable(manifest: Manifest, lines: list[WayOut]) -> Iterator[Finding]:
    for value in (value for line in lines for value in revealed(line)):
        for name in sorted(secrets_in(value.expression)):
            if manifest.confidential[name].strength is Strength.PASSWORD:
                message = f"!{name} is a human's: whoever sees this release can try passwords"
                yield finding_at("guessable", value, message, severity="note")


def _no_secret(manifest: Manifest, lines: list[WayOut]) -> Iterator[Finding]:
    with_secret = {line.formula.name for line in lines if secrets_in(line.expression)}
    for name in manifest.formulas:
        if name not in with_secret:
            yield Finding(
                rule="no-secret", formula=name, line=0, message="it uses no secret", severity="note"
            )
