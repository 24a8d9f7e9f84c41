"""The ledger entry of a work item: a pure function of the item, the decision and the time.

Rules:
- Recorder and keyholder both build the entry of an item that they handle; the keyholder evaluates an item
  only if the entry that it built itself is a leaf of the batch. So an entry cannot say one thing while
  another is done (docs/adr/0008).
- Canonical JSON (RFC 8785) that begins with the item's digest: `{"act":"<sha256>","at":<ms>,...`; no other
  member sorts before "act".
- Never a secret, never a MAC of one, never a hole: holes appear as a SHA-256 with a salt that is kept beside
  the entry, and deleting the salt redacts them.
- An entry is an authorization (`authorized`) or a refusal (`denied`, with rule and reason), not the proof of
  an answer.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from ostiary.ledger.canonical import canonical
from ostiary.work.item import Facts, Item, RawItem, item_digest, kind_of


class Verdict(NamedTuple):
    """What the recorder decided; `rule` and `reason` are those of a denial, empty for `authorized`."""

    decision: Literal["authorized", "denied"]
    rule: str = ""
    reason: str = ""


AUTHORIZED = Verdict("authorized")


def build_entry(item: Item, raw: RawItem, verdict: Verdict, *, at_ms: int) -> bytes:
    """Build the canonical bytes of the entry for `item`, whose msgpack bytes are `raw`; `at_ms` is the
    recorder's clock (Unix time).
    """
    # Auditors read these bytes and the keyholder compares them: a member is never renamed, nor given another
    # meaning. Canonical JSON sorts the members, so their order here means nothing.
    entry: Facts = {
        "act": item_digest(raw).hex(),
        "at": at_ms,
        "decision": verdict.decision,
        "kind": kind_of(item),
        **item.facts(),
    }
    if verdict.decision == "denied":
        entry["rule"] = verdict.rule
        entry["reason"] = verdict.reason
    return canonical(entry)
