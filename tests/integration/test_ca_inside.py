"""Keyholder, recorder and admin as processes: one token gives one certificate, and the ledger has everything
that left.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ostiary.errors import BadInput, Forbidden, NotFound, OstiaryError
from ostiary.ledger.checkpoint import open_note
from ostiary.ledger.verify import verify_log
from tests.support.ca_roles import NODE, InnerCA, inner_ca, results_of
from tests.support.waiting import until

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def ca() -> Iterator[InnerCA]:
    with inner_ca() as made:
        yield made


def verified_entries(ca: InnerCA) -> list[dict[str, Any]]:
    """All entries of the signed tree, each checked against it."""
    answer = ca.admin.call("ledger.checkpoint")
    checkpoint = open_note(answer["note"].encode(), [ca.home.verifier()])
    texts: list[bytes] = []
    while len(texts) < checkpoint.size:
        page = ca.admin.call("ledger.entries", first=len(texts), count=checkpoint.size - len(texts))
        texts += [row["entry"].encode() for row in page]
    verify_log(texts, checkpoint, since=None, hashes=None, waypoints=())
    return [json.loads(text) for text in texts[: checkpoint.size]]


def test_two_thousand_keys_for_one_token_from_two_processes_get_one_certificate(ca: InnerCA) -> None:
    made = ca.mint()
    workers = [ca.run_as_front(json.dumps(made), "1000") for _ in range(2)]
    results = [result for worker in workers for result in results_of(worker)]
    assert len(results) == 2000
    outcomes = [result["outcome"] for result in results]
    assert outcomes.count("issued") == 1
    assert outcomes.count("token-spent") == 1999
    about = [entry for entry in verified_entries(ca) if entry.get("token") == made["id"]]
    bought = [entry for entry in about if entry["kind"] == "redeem" and entry["decision"] == "authorized"]
    issued = next(result for result in results if result["outcome"] == "issued")
    assert [entry["certificate"]["serial"] for entry in bought] == [issued["serial"]]
    alarms = [e for e in verified_entries(ca) if e["kind"] == "alarm" and made["id"] in e["detail"]]
    assert len(alarms) == 1


def test_killed_roles_come_back_and_nothing_that_left_is_missing_from_the_ledger(ca: InnerCA) -> None:
    tokens = [ca.mint(ttl_s=3600) for _ in range(600)]
    size = ca.admin.call("ledger.checkpoint")["size"]
    stop = threading.Event()
    killer = threading.Thread(target=_kill_now_and_then, args=(ca, size, stop))
    worker = ca.run_as_front()
    assert worker.stdin is not None
    killer.start()
    worker.stdin.write("".join(json.dumps(token) + "\n" for token in tokens).encode())
    worker.stdin.close()
    worker.stdin = None
    results = results_of(worker)
    stop.set()
    killer.join()
    ca.wait_until_up()
    assert [result["outcome"] for result in results] == ["issued"] * 600
    assert max(result["tries"] for result in results) > 1, "nothing was killed under load"
    entries = verified_entries(ca)
    by_token: dict[str, set[str]] = {}
    for entry in entries:
        if entry["kind"] == "redeem" and entry["decision"] == "authorized":
            by_token.setdefault(entry["token"], set()).add(entry["certificate"]["serial"])
    for result in results:
        assert by_token[result["token"]] == {result["serial"]}, "one certificate per token, and recorded"
        assert entries[result["index"]]["certificate"]["serial"] == result["serial"]


def _kill_now_and_then(ca: InnerCA, size: int, stop: threading.Event) -> None:
    """Kill when twenty more are issued, so that others are being issued then."""

    def has_grown() -> bool:
        with contextlib.suppress(OstiaryError, OSError):
            return bool(ca.admin.call("ledger.checkpoint")["size"] >= size + 20)
        return False

    for names in (("keyholder",), ("recorder",), ("keyholder", "recorder")) * 2:
        until(lambda: stop.is_set() or has_grown())
        if stop.is_set():
            return
        ca.kill(*names)
        size += 20


def test_signatures_that_a_crash_lost_are_made_again(ca: InnerCA) -> None:
    made = ca.mint()
    serial = results_of(ca.run_as_front(json.dumps(made), "1"))[0]["serial"]
    ca.kill("recorder")
    ca.wait_until_up()
    until(lambda: ca.admin.call("certificate.show", serial=serial)["certificate"])


def test_an_operator_lists_shows_and_revokes(ca: InnerCA) -> None:
    made = ca.mint()
    serial = results_of(ca.run_as_front(json.dumps(made), "1"))[0]["serial"]
    rows = ca.admin.call("certificate.list", agent=made["agent"])
    assert [(row["serial_number"], row["status"], row["node"]) for row in rows] == [(serial, "active", NODE)]
    done = ca.admin.call("certificate.revoke", serial=serial, reason="keyCompromise")
    assert done["status"] == "revoked"
    assert ca.admin.call("certificate.show", serial=serial)["reason"] == "keyCompromise"
    with pytest.raises(Forbidden) as refused:
        ca.admin.call("certificate.revoke", serial=serial)
    assert refused.value.rule == "certificate-revoked"
    token = next(row for row in ca.admin.call("token.list") if row["id"] == made["id"])
    assert (token["status"], token["serial_number"]) == ("spent", serial)


@pytest.mark.parametrize(
    ("verb", "arguments", "error", "field"),
    [
        ("token.create", {"subsystem": "X", "node": NODE}, BadInput, "subsystem"),
        ("token.create", {"subsystem": "component", "node": "n.other.example"}, BadInput, "node"),
        ("token.create", {"subsystem": "component", "node": NODE, "color": "red"}, BadInput, "color"),
        ("token.create", {"subsystem": "component"}, BadInput, "node"),
        ("token.create", {"subsystem": "component", "node": NODE, "ttl_s": 0}, BadInput, "ttl_s"),
        ("token.create", {"subsystem": "component", "node": NODE, "address": "::"}, BadInput, "address"),
        ("token.create", {"subsystem": "component", "node": NODE, "endpoints": ["x"]}, BadInput, "endpoints"),
        ("token.revoke", {"id": "short"}, BadInput, "token_id"),
        ("bootstrap", {"node": NODE, "address": "169.254.169.254"}, BadInput, "address"),
        ("confirm", {"node": NODE, "fingerprint": "00"}, BadInput, "fingerprint"),
        ("confirm", {"node": NODE, "fingerprint": "00" * 32}, NotFound, None),
        ("certificate.show", {"serial": "abcd"}, NotFound, None),
        ("certificate.list", {"status": "nice"}, BadInput, "status"),
        ("certificate.revoke", {"serial": "abcd", "reason": "boredom"}, BadInput, "reason"),
        ("ledger.tile", {"level": 0, "index": 10**6, "width": 1}, NotFound, None),
        ("no.such", {}, NotFound, None),
    ],
)
def test_bad_arguments_are_named_and_change_nothing(
    ca: InnerCA, verb: str, arguments: dict[str, Any], error: type[Exception], field: str | None
) -> None:
    before, began_ms = ca.admin.call("ledger.checkpoint")["size"], int(time.time() * 1000)
    with pytest.raises(error) as caught:
        ca.admin.call(verb, **arguments)
    assert getattr(caught.value, "field", None) == field
    added = ca.admin.call("ledger.checkpoint")["size"] - before
    page = ca.admin.call("ledger.entries", first=before, count=added) if added else []
    # Others' entries may come at any time: revocation lists that are due, and what was recorded before but is
    # settled now.
    news = [json.loads(row["entry"]) for row in page]
    assert not [entry for entry in news if "operator" in entry and entry["at"] >= began_ms]


def test_a_bootstrap_document_says_what_a_node_needs(ca: InnerCA) -> None:
    document = ca.admin.call("bootstrap", node="n7.nodes.shop.example", address="127.0.0.1:7999")
    assert document["version"] == 1
    assert set(document["tokens"]) == {"node-controller", "certificate-manager"}
    known = open_note(document["ledgers"][0]["checkpoint"].encode(), [ca.home.verifier()])
    assert known.origin == document["ledgers"][0]["origin"] == "shop.example/ca"
    rows = {row["subsystem"]: row for row in ca.admin.call("token.list", limit=2)}
    assert rows["certificate-manager"]["address"] == rows["node-controller"]["address"] == "127.0.0.1:7999"
    assert rows["certificate-manager"]["endpoints"][0].endswith(".n7.nodes.shop.example:7999")
    assert rows["certificate-manager"]["capabilities"] == ["enroll:node"]
