"""The refusal of a manifest that the machine's checks refuse: for those who propose a module, and for the
keyholder that takes it in.

The keyholder checks what the admin process and the approver's own machine checked before it, because it
believes neither: a signature says that a person agreed, not that the machine did.
"""

from __future__ import annotations

from typing import Final

from credsvc.formula.approve import find_refusals
from credsvc.formula.manifest import Manifest
from ostiary.errors import Forbidden

# A manifest that is wrong is often wrong in every formula; the message goes into an alarm and on a terminal.
_MAX_TOLD: Final = 3


def check_approvable(manifest: Manifest) -> None:
    """Pass a manifest without refusals; Forbidden(rule="approval-<first rule>") names the first few."""
    refusals = find_refusals(manifest)
    if refusals:
        told = "; ".join(f"{each.place}: {each.message}" for each in refusals[:_MAX_TOLD])
        more = len(refusals) - _MAX_TOLD
        raise Forbidden(
            f"module '{manifest.name}' is not approvable: {told}"
            + (f"; and {more} more" if more > 0 else ""),
            rule=f"approval-{refusals[0].rule}",
        )
