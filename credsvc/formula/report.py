"""What an approver is shown of a manifest beside its text: what the machine refuses (`approve.py`), and two
notes.

1. guessable: a person's password is behind what is released, and whoever sees that can try passwords.
2. no-secret: the formula uses no secret at all.

A note refuses nothing, so no keyholder loads this file.
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
    """What the machine found in a manifest; `guessable` names the operations of note 1."""

    refusals: tuple[Finding, ...]
    notes: tuple[Finding, ...]
    guessable: frozenset[str]

    @property
    def findings(self) -> tuple[Finding, ...]:
        return self.refusals + self.notes


def report_manifest(manifest: Manifest) -> MachineReport:
    """Check a manifest and add the notes; a manifest that is refused has none."""
    refusals = find_refusals(manifest)
    notes = () if refusals else tuple(_notes(manifest))
    guessable = {
        manifest.formulas[note.formula].operation
        for note in notes
        if note.rule == "guessable" and note.formula
    }
    return MachineReport(refusals=refusals, notes=notes, guessable=frozenset(guessable))


def _notes(manifest: Manifest) -> Iterator[Finding]:
    lines = [line for formula in manifest.formulas.values() for line in ways_out(manifest, formula)]
    yield from _guessable(manifest, lines)  # 1
    yield from _no_secret(manifest, lines)  # 2


# 1. A generated secret has 128 bits (`manifest.py`), which nobody tries; a password has a few dozen, and MD5
# or even pbkdf2 over it is tried faster than it was thought out. Policy must name such an operation
# (`policy/cedar.py`).
def _guessable(manifest: Manifest, lines: list[WayOut]) -> Iterator[Finding]:
    for value in (value for line in lines for value in revealed(line)):
        for name in sorted(secrets_in(value.expression)):
            if manifest.confidential[name].strength is Strength.PASSWORD:
                message = f"!{name} is a person's password: whoever sees this release can try passwords"
                yield finding_at("guessable", value, message, severity="note")


# 2. Not wrong, but nothing that needs a credentials service: more often a forgotten `!`.
def _no_secret(manifest: Manifest, lines: list[WayOut]) -> Iterator[Finding]:
    with_secret = {line.formula.name for line in lines if secrets_in(line.expression)}
    for name in manifest.formulas:
        if name not in with_secret:
            yield Finding(
                rule="no-secret",
                formula=name,
                line=None,
                message="the formula uses no secret",
                severity="note",
            )
