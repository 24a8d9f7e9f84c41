"""All decisions of a CA: a table from the kind of an item to the function that decides it.

Rules:
- Items are decided in their order against the same rows, so that a later one sees what an earlier one
  changed.
- Each asked item gets exactly one decision; what follows from it (`also`) is recorded right behind it.
- A refusal by the front (`Refuse`) is recorded as the denial that it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from ca import items
from ca.recorder.decide_renewals import activate, confirm_node, renew
from ca.recorder.decide_revocations import expire_pending, retire, revoke
from ca.recorder.decide_services import front_certificate, responder_certificate
from ca.recorder.decide_spawns import spawn
from ca.recorder.decide_tokens import mint_token, redeem, void_token
from ca.recorder.decision import DONE, SIGN, Decision, Terms, denied
from ca.store.rows import Rows
from ostiary.errors import Forbidden
from ostiary.work.item import Item
from ostiary.work.reports import Alarm, Refusals, Refuse

DecisionFunction = Callable[[Rows, Any, Terms], Decision]

DECISIONS: Final[dict[type[Item], DecisionFunction]] = {
    items.Redeem: redeem,
    items.Renew: renew,
    items.Spawn: spawn,
    items.Activate: activate,
    items.Retire: retire,
    Refuse: lambda _rows, item, _terms: denied(item.rule, item.reason),
    Refusals: lambda _rows, _item, _terms: DONE,
    items.FrontCertificate: front_certificate,
    items.ResponderCertificate: responder_certificate,
    items.MintToken: mint_token,
    items.VoidToken: void_token,
    items.ConfirmNode: confirm_node,
    items.Revoke: revoke,
    items.ExpirePending: expire_pending,
    items.Resign: lambda _rows, _item, _terms: SIGN,
    Alarm: lambda _rows, _item, _terms: DONE,
}
"""Every item that can be asked for. `PublishCRL` is the publisher's (ca/recorder/publishing.py); the kinds
that are missing only follow from these.
"""


def decide_item(rows: Rows, item: Item, terms: Terms) -> Decision:
    """Decide one item and change the rows.

    A check refuses by raising `Forbidden`, before its decision has changed a row. Any other exception is a
    broken invariant, and undoes the whole turn.
    """
    try:
        return DECISIONS[type(item)](rows, item, terms)
    except Forbidden as exc:
        return denied(exc.rule, exc.message)
