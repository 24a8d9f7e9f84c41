"""Refuse a manifest that the machine's checks refuse: for whoever proposes a module, and for the keyholder
that takes it in.
"""

from __future__ import annotations

from credsvc.formula.approve import find_refusals
from credsvc.formula.manifest import Manifest
from ostiary.errors import Forbidden

_MAX_TOLD = 3


def check_approvable(manifest: Manifest) -> None:
    """Forbidden(rule="approval-<check>") tells the first refusals, each with its formula and line."""
    refusals = find_refusals(manifest)
    if refusals:
        told = "; ".join(f"{f.formula} line {f.line}: {f.message}" for f in refusals[:_MAX_TOLD])
        more = len(refusals) - _MAX_TOLD
        raise Forbidden(
            f"module '{manifest.name}' is not approvable: {told}"
            + (f"; and {more} more" if more > 0 else ""),
            rule=f"approval-{refusals[0].rule}",
        )
