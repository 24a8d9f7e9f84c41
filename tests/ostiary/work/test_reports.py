"""What the ledger tells of refusals and alarms."""

from __future__ import annotations

import json

from ostiary.work.entry import AUTHORIZED, Verdict, build_entry
from ostiary.work.item import Item, Peer
from ostiary.work.item_encoding import encode_item
from ostiary.work.reports import Alarm, Refusals, Refuse

PEER = Peer(serial="1f", subsystem="component", node="n1.shop.example", agent="a")


def told(item: Item, verdict: Verdict = AUTHORIZED) -> dict[str, object]:
    entry: dict[str, object] = json.loads(build_entry(item, encode_item(item), verdict, at_ms=1))
    return entry


def test_a_refusal_keeps_its_own_rule_beside_that_of_the_record() -> None:
    item = Refuse(by=PEER, act="renew", target="2e", rule="front-rule", reason="front reason")
    entry = told(item, Verdict("denied", rule=item.rule, reason=item.reason))
    assert (entry["kind"], entry["attempt"], entry["target"]) == ("refuse", "renew", "2e")
    assert entry["by"] == {"agent": "a", "node": "n1.shop.example", "serial": "1f", "subsystem": "component"}
    assert (entry["decision"], entry["rule"], entry["reason"]) == ("denied", "front-rule", "front reason")


def test_counted_refusals_have_a_reason_that_is_not_the_decisions() -> None:
    entry = told(Refusals(source="192.0.2.7", reason="no-certificate", count=12))
    assert (entry["source"], entry["refusal"], entry["count"]) == ("192.0.2.7", "no-certificate", 12)
    assert "reason" not in entry


def test_an_alarm_says_what_and_where() -> None:
    entry = told(Alarm(what="keyholder-refused", detail="entry 7: guard-issuer"))
    assert (entry["alarm"], entry["detail"]) == ("keyholder-refused", "entry 7: guard-issuer")
