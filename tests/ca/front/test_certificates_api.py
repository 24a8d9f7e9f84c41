"""Pending certificates are proven, certificates are revoked, and what was revoked is told and refused at
once.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from ca.front.doorkeeper import LIMITS
from ca.items import Retire
from ostiary.errors import Forbidden
from ostiary.front.limits import Limit
from ostiary.identity import identity_of
from ostiary.peer import peer_item
from ostiary.work.reports import Refusals
from tests.support.ca_front import MANAGER, FrontForTests
from tests.support.waiting import PATIENCE_S

ADDRESS = "127.0.0.1:7443"


@pytest.fixture
def front(tmp_path: Path) -> FrontForTests:
    return FrontForTests(tmp_path)


def test_the_dial_back_goes_to_the_address_of_the_token_and_activates(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True, address=ADDRESS)
    result = front.post(f"/v1/certificates/{holder.serial}/prove", {}, holder=holder)
    assert (result.status_code, result.json["status"]) == (200, "active")
    (dialled,) = front.proofs
    assert dialled[0] == ADDRESS
    assert dialled[1].startswith("22222222-")
    assert dialled[2] == holder.der
    assert front.status(holder.serial) == "active"


def test_a_failed_dial_back_is_recorded_and_leaves_it_pending(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True, address=ADDRESS)
    front.prove_error = Forbidden("dial-back: no answer", rule="dial-back")
    result = front.post(f"/v1/certificates/{holder.serial}/prove", {}, holder=holder)
    assert (result.status_code, result.json["rule"]) == (403, "dial-back")
    assert front.recording.refusals() == [("prove", "dial-back")]
    assert front.status(holder.serial) == "pending"


def test_nobody_proves_another_certificate(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True, address=ADDRESS)
    other = front.holder("certificate-manager", MANAGER, bootstrap=True, address=ADDRESS)
    result = front.post(f"/v1/certificates/{other.serial}/prove", {}, holder=holder)
    assert (result.status_code, result.json["rule"]) == (403, "certificate-other")
    assert not front.proofs


def test_an_active_certificate_has_nothing_to_prove(front: FrontForTests) -> None:
    holder = front.holder()
    result = front.post(f"/v1/certificates/{holder.serial}/prove", {}, holder=holder)
    assert (result.status_code, result.json["rule"]) == (403, "certificate-active")


def test_ones_own_word_counts_only_after_the_window(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True)
    path = f"/v1/certificates/{holder.serial}/confirm"
    assert front.post(path, {}, holder=holder).json["rule"] == "proof-window"
    front.clock.later(minutes=11)
    assert front.post(path, {}, holder=holder).status_code == 200
    assert front.status(holder.serial) == "active"


def test_an_agent_ends_itself_and_is_refused_afterwards(front: FrontForTests) -> None:
    holder = front.holder()
    path = f"/v1/certificates/{holder.serial}/revoke"
    result = front.post(path, {"reason": "cessationOfOperation"}, holder=holder)
    assert (result.status_code, result.json["status"]) == (200, "revoked")
    refused = front.ask("GET", "/v1/whoami", holder=holder)
    assert (refused.status_code, refused.json["rule"]) == (403, "certificate-revoked")
    assert front.recording.refusals() == [("whoami", "certificate-revoked")]


def test_a_manager_ends_agents_of_its_node_and_no_others(front: FrontForTests) -> None:
    manager = front.holder("certificate-manager", MANAGER)
    here = front.holder()
    there = front.holder(
        "component-harness", "55555555-5555-4555-8555-555555555555", node="n2.nodes.shop.example"
    )
    reason = {"reason": "keyCompromise"}
    assert front.post(f"/v1/certificates/{here.serial}/revoke", reason, holder=manager).status_code == 200
    refused = front.post(f"/v1/certificates/{there.serial}/revoke", reason, holder=manager)
    assert (refused.status_code, refused.json["rule"]) == (403, "retire-stranger")
    assert front.status(there.serial) == "active"


def test_a_reason_that_is_none_is_named(front: FrontForTests) -> None:
    holder = front.holder()
    result = front.post(f"/v1/certificates/{holder.serial}/revoke", {"reason": "boredom"}, holder=holder)
    assert (result.status_code, result.json["field"]) == (400, "reason")


def test_an_expired_certificate_on_an_open_connection_is_refused(front: FrontForTests) -> None:
    holder = front.holder()
    front.clock.at = holder.certificate.not_valid_after_utc + timedelta(seconds=1)
    result = front.ask("GET", "/v1/whoami", holder=holder)
    assert (result.status_code, result.json["field"]) == (401, "certificate")
    assert front.recording.refusals() == [("whoami", "certificate-expired")]


def test_a_certificate_that_the_store_does_not_know_is_refused(front: FrontForTests, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    elsewhere = FrontForTests(tmp_path / "other").holder()
    result = front.ask("GET", "/v1/whoami", holder=elsewhere)
    assert result.status_code == 401
    assert front.recording.refusals() == [("whoami", "certificate-unknown")]


def test_a_pending_certificate_may_not_follow_the_feed(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True)
    assert front.ask("GET", "/v1/revocations", holder=holder).status_code == 403


def test_the_feed_tells_what_was_revoked_since(front: FrontForTests) -> None:
    reader = front.holder("certificate-manager", MANAGER)
    holder = front.holder()
    assert front.ask("GET", "/v1/revocations", holder=reader).json == {"next": 0, "revoked": []}
    front.post(f"/v1/certificates/{holder.serial}/revoke", {"reason": "unspecified"}, holder=holder)
    told = front.ask("GET", "/v1/revocations", params={"since": "0"}, holder=reader).json
    assert told["next"] == 1
    assert [row["serial_number"] for row in told["revoked"]] == [holder.serial]
    assert front.ask("GET", "/v1/revocations", params={"since": "1"}, holder=reader).json["revoked"] == []
    # After a restore a client may be ahead of the feed.
    assert front.ask("GET", "/v1/revocations", params={"since": "9"}, holder=reader).json["next"] == 1


@pytest.mark.parametrize("params", [{"since": "-1"}, {"since": "x"}, {"wait": "31"}, {"since": "9" * 30}])
def test_a_number_that_is_none_is_named(front: FrontForTests, params: dict[str, str]) -> None:
    result = front.ask("GET", "/v1/revocations", params=params, holder=front.holder())
    assert (result.status_code, result.json["field"]) == (400, next(iter(params)))


def test_who_waits_hears_of_a_revocation_and_its_connections_are_cut(front: FrontForTests) -> None:
    holder = front.holder()
    by = peer_item(holder.serial, identity_of(holder.certificate))

    async def story() -> list[str]:
        waiting = asyncio.create_task(front.feed.since(0, wait_s=10 * PATIENCE_S, by="1f"))
        await asyncio.sleep(0)
        await front.parts.recording.submit(Retire(by=by, serial=holder.serial, reason="unspecified"))
        await front.feed.look()
        return [step.serial for step in (await waiting)[1]]

    assert asyncio.run(story()) == [holder.serial]
    assert front.cut == [holder.certificate.serial_number]


def test_refusals_of_one_certificate_do_not_flood_the_ledger(tmp_path: Path) -> None:
    front = FrontForTests(tmp_path, limits=replace(LIMITS, refused=Limit(rate_per_s=1, burst=2)))
    holder = front.holder(bootstrap=True)
    statuses = [front.ask("GET", "/v1/revocations", holder=holder).status_code for _ in range(4)]
    assert statuses == [403, 403, 429, 429]
    assert len(front.recording.refusals()) == 2


def test_an_unrecorded_refusal_is_no_answer(front: FrontForTests) -> None:
    holder = front.holder(bootstrap=True)
    front.recording.is_away = True
    assert front.ask("GET", "/v1/revocations", holder=holder).status_code == 503


def test_entries_of_the_ledger_want_a_capability(front: FrontForTests) -> None:
    manager = front.holder("certificate-manager", MANAGER)
    refused = front.ask("GET", "/v1/ledger/entries/000", holder=manager)
    assert (refused.status_code, refused.json["rule"]) == (403, "capability-ledger:read")
    assert front.ask("GET", "/v1/ledger/checkpoint").status_code == 401
    assert front.ask("GET", "/v1/ledger/tile/0/zzz", holder=manager).json["field"] == "path"


def test_readiness_says_which_part_is_missing(front: FrontForTests) -> None:
    assert front.ask("GET", "/readyz").json == {
        "status": "ready",
        "checks": ["store", "recorder"],
        "roles_separated": False,
    }
    front.recording.is_away = True
    result = front.ask("GET", "/readyz")
    assert (result.status_code, result.json["detail"]) == (503, "not ready: recorder")
    assert front.ask("GET", "/healthz").status_code == 200


def test_a_store_that_cannot_be_read_is_busy_and_says_nothing(front: FrontForTests) -> None:
    holder = front.holder()
    (front.directory / "store.sqlite").rename(front.directory / "gone")
    front.reader.engine.dispose()
    result = front.ask("GET", "/v1/whoami", holder=holder)
    assert (result.status_code, result.json["detail"]) == (503, "the store can't be read now")


@pytest.mark.parametrize("path", ["/v1/whoami", "/healthz", "/.well-known/est/cacerts"])
def test_a_certificate_that_did_not_verify_is_counted_and_nobodys(front: FrontForTests, path: str) -> None:
    result = front.ask("GET", path, holder=front.holder(), problem="it has expired")
    assert (result.status_code, result.json["field"]) == (401, "certificate")
    assert front.counted() == [Refusals(source="127.0.0.1", reason="certificate-unverified", count=1)]
    assert not front.recording.refusals()
