"""The CA's service on a real store: batches see their own changes, lists follow revocations, and a crash
loses nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine, select, update

from ca.items import COMPLETE, ExpirePending, PublishCRL, Resign
from ca.recorder import publishing
from ca.recorder.publishing import LOST_AFTER_S, REFRESH_S, Publisher
from ca.recorder.recording import CAService, CASettings
from ca.store.tables import CERTIFICATES, CRLS, REVOCATIONS, SHARDS, TOKENS
from ostiary.certificate import ECDSA_SHA256
from ostiary.recorder.batch import ask
from ostiary.recorder.service import Ruling, Settled
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade
from ostiary.work.item import Item
from tests.support.ca_authority import CONFIG, AuthorityForTests
from tests.support.ca_decisions import GRANTS, TOKEN, RecorderInMemory, key

CA = AuthorityForTests()


@dataclass
class RecorderOnStore:
    """A CA's service on a store of its own; `items` makes what is asked and has the clock, `settle` stands in
    for the keyholder.
    """

    engine: Engine
    items: RecorderInMemory = field(default_factory=RecorderInMemory)
    service: CAService = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        settings = CASettings(
            origin="shop.example/ca",
            node="ca.shop.example",
            grants=GRANTS,
            signature_algorithm_der=ECDSA_SHA256,
            max_lifetime_s=7200,
            max_node_lifetime_s=86400,
        )
        self.service = CAService(settings, Publisher(CA.crl_issuer, crl_base_url=CONFIG.crl_base_url))

    def wait(self, seconds: int) -> None:
        self.items.wait(seconds)

    @property
    def now_ms(self) -> int:
        return self.items.now_s * 1000

    def decide(self, *items: Item) -> list[Ruling]:
        with self.engine.begin() as tx:
            return self.service.decide(tx, [ask(item) for item in items], now_ms=self.now_ms)

    def settle(self, rulings: list[Ruling]) -> None:
        """Store what a keyholder would have signed."""
        with self.engine.begin() as tx:
            done = [
                Settled(item=ruling.item, index=0, output=_signature(ruling))
                for ruling in rulings
                if ruling.attachment is not None and ruling.verdict.decision == "authorized"
            ]
            self.service.settle(tx, done)

    def do(self, *items: Item) -> list[Ruling]:
        rulings = self.decide(*items)
        self.settle(rulings)
        return rulings

    def due(self) -> list[Item]:
        with self.engine.begin() as tx:
            return self.service.due(tx, now_ms=self.now_ms)

    def publish(self) -> list[tuple[int, int, int]]:
        """Do what is due; (shard, number, revoked) of each list."""
        items = self.due()
        if items:
            self.do(*items)
        return [(item.shard, item.number, item.revoked) for item in items if isinstance(item, PublishCRL)]

    def rows(self, table: Any) -> list[Any]:
        with self.engine.begin() as tx:
            return list(tx.execute(select(table)))

    def crl(self, shard: int) -> x509.CertificateRevocationList:
        with self.engine.begin() as tx:
            der = tx.execute(select(CRLS.c.der).where(CRLS.c.shard == shard)).scalar_one()
        return x509.load_der_x509_crl(der)

    def issue(self, token_id: str, number: int = 1) -> str:
        agent = self.items.new_agent()
        self.do(self.items.mint(token_id=token_id, agent=agent))
        item = self.items.redeem(token_id=token_id, agent=agent, spki_digest=key(number), shard=1)
        assert self.do(item)[0].verdict.decision == "authorized"
        return item.certificate.serial


def _signature(ruling: Ruling) -> bytes:
    tbs = ruling.attachment or b"certificate"
    return CA.key.sign(tbs, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[RecorderOnStore]:
    engine = open_for_writing(sqlite_url(tmp_path / "store.sqlite"))
    upgrade(engine, migrations="ca.store.migrations")
    yield RecorderOnStore(engine)
    engine.dispose()


def test_two_items_for_one_token_in_one_batch_see_each_other(recorder: RecorderOnStore) -> None:
    first, second = recorder.items.redeem(), recorder.items.redeem(spki_digest=key(2))
    rulings = recorder.decide(recorder.items.mint(), first, second)
    verdicts = [(type(r.item).__name__, r.verdict.decision, r.answers) for r in rulings]
    assert verdicts == [
        ("MintToken", "authorized", 0),
        ("Redeem", "authorized", 1),
        ("Redeem", "denied", 2),
        ("Alarm", "authorized", None),
    ]
    assert [row.serial for row in recorder.rows(CERTIFICATES)] == [first.certificate.serial]
    assert [(row.status, row.contested) for row in recorder.rows(TOKENS)] == [("spent", True)]
    assert [(row.number, row.count) for row in recorder.rows(SHARDS)] == [(1, 1)]


def test_the_store_answers_as_the_rows_did(recorder: RecorderOnStore) -> None:
    item = recorder.items.redeem()
    recorder.do(recorder.items.mint(), item)
    same = recorder.decide(recorder.items.redeem())[0]
    assert isinstance(same.item, Resign)
    assert (same.attachment, bool(same.known_output), same.substitute) == (None, True, item.certificate.tbs)
    assert recorder.decide(recorder.items.redeem(spki_digest=key(2)))[0].verdict.rule == "token-spent"
    assert recorder.decide(recorder.items.mint())[0].verdict.rule == "token-taken"


def test_a_serial_number_of_the_store_is_taken(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    recorder.do(recorder.items.mint(token_id="b" * 16))
    again = recorder.items.redeem(token_id="b" * 16, serial=serial, shard=1)
    assert recorder.decide(again)[0].verdict.rule == "certificate-serial-taken"


def test_lists_are_there_before_anything_is_revoked(recorder: RecorderOnStore) -> None:
    assert recorder.publish() == [(COMPLETE, 1, 0)]
    recorder.issue(TOKEN)
    recorder.wait(1)
    assert recorder.publish() == [(1, 1, 0)]
    assert recorder.crl(1).is_signature_valid(CA.key.public_key())
    assert recorder.publish() == []


def test_a_revocation_is_listed_in_its_shard_then_in_the_complete_list(recorder: RecorderOnStore) -> None:
    serials = [recorder.issue(letter * 16, number) for number, letter in enumerate("abc")]
    recorder.publish()
    recorder.do(recorder.items.revoke(serials[0], "keyCompromise"))
    assert recorder.publish() == []  # thisUpdate has whole seconds
    recorder.wait(1)
    assert recorder.publish() == [(1, 2, 1), (COMPLETE, 2, 1)]
    recorder.do(recorder.items.revoke(serials[1]))
    recorder.wait(1)
    assert recorder.publish() == [(1, 3, 2), (COMPLETE, 3, 2)]
    for shard in (1, COMPLETE):
        found = [entry.serial_number for entry in recorder.crl(shard)]
        assert found == [int(serial, 16) for serial in serials[:2]]
    assert [row.n for row in recorder.rows(REVOCATIONS)] == [1, 2]


def test_this_update_and_number_grow_over_a_restart(recorder: RecorderOnStore) -> None:
    serials = [recorder.issue(letter * 16, number) for number, letter in enumerate("ab")]
    recorder.publish()
    recorder.wait(1)
    recorder.do(recorder.items.revoke(serials[0]))
    recorder.publish()
    before = recorder.crl(1)
    recorder.wait(1)
    recorder.do(recorder.items.revoke(serials[1]))
    recorder.restart()
    assert {shard for shard, _, _ in recorder.publish()} == {1, COMPLETE}
    after = recorder.crl(1)
    assert len(after) == 2
    assert after.last_update_utc > before.last_update_utc


def test_a_list_whose_signature_was_lost_is_made_anew(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    recorder.publish()
    recorder.wait(1)
    recorder.do(recorder.items.revoke(serial))
    lost = recorder.due()
    recorder.decide(*lost)
    recorder.wait(LOST_AFTER_S)
    assert recorder.publish() == []
    recorder.wait(1)
    assert (1, 3, 1) in recorder.publish()
    recorder.wait(1)
    recorder.decide(*(recorder.due() or [recorder.items.mint(token_id="b" * 16)]))
    recorder.restart()
    recorder.wait(1)
    recorder.publish()
    assert len(recorder.crl(1)) == 1


def test_lists_are_refreshed_before_they_end_and_forget_what_expired(recorder: RecorderOnStore) -> None:
    serial = recorder.issue(TOKEN)
    recorder.publish()
    recorder.do(recorder.items.revoke(serial))
    recorder.wait(1)
    recorder.publish()
    recorder.wait(REFRESH_S)
    assert recorder.publish() == [(1, 3, 1), (COMPLETE, 3, 1)]
    recorder.wait(REFRESH_S + 7200)
    recorder.wait(REFRESH_S)
    assert recorder.publish() == [(1, 4, 0), (COMPLETE, 4, 0)]


def test_a_turn_that_was_undone_leaves_its_lists_due(recorder: RecorderOnStore) -> None:
    items = recorder.due()

    class Undone(Exception):
        pass

    with pytest.raises(Undone), recorder.engine.begin() as tx:
        recorder.service.decide(tx, [ask(item) for item in items], now_ms=recorder.now_ms)
        raise Undone
    recorder.wait(LOST_AFTER_S + 1)
    assert [shard for shard, _, _ in recorder.publish()] == [COMPLETE]


def test_a_signature_whose_turn_was_undone_is_stored_with_the_next(recorder: RecorderOnStore) -> None:
    signed = recorder.decide(*recorder.due())
    results = [Settled(item=each.item, index=0, output=_signature(each)) for each in signed]
    with recorder.engine.connect() as tx:
        recorder.service.settle(tx, results)
        tx.rollback()
    recorder.settle(signed)
    assert recorder.crl(COMPLETE).is_signature_valid(CA.key.public_key())
    recorder.wait(LOST_AFTER_S + 1)
    assert recorder.publish() == []


def test_lists_that_do_not_fit_into_one_batch_follow_in_the_next(
    recorder: RecorderOnStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    serials = [recorder.issue(TOKEN)]
    recorder.wait(3700)
    recorder.do(recorder.items.mint(token_id="b" * 16))
    item = recorder.items.redeem(token_id="b" * 16, shard=2, spki_digest=key(2))
    assert recorder.do(item)[0].verdict.decision == "authorized"
    serials.append(item.certificate.serial)
    recorder.publish()
    recorder.wait(1)
    recorder.do(*(recorder.items.revoke(serial) for serial in serials))
    monkeypatch.setattr(publishing, "MAX_LIST_BYTES", len(recorder.crl(1).tbs_certlist_bytes) + 100)
    assert [recorder.publish() for _ in range(4)] == [[(2, 2, 1)], [(1, 2, 1)], [(COMPLETE, 2, 2)], []]


def test_what_was_not_proven_in_time_is_due(recorder: RecorderOnStore) -> None:
    boot = {
        "subsystem": "node-controller",
        "bootstrap": True,
        "capabilities": (),
        "address": "192.0.2.1:7443",
    }
    item = recorder.items.redeem(subsystem="node-controller", capabilities=())
    recorder.do(recorder.items.mint(**boot), item)
    recorder.wait(599)
    assert not [each for each in recorder.due() if isinstance(each, ExpirePending)]
    recorder.wait(1)
    due = [each for each in recorder.due() if isinstance(each, ExpirePending)]
    assert due == [ExpirePending(serial=item.certificate.serial)]
    rulings = recorder.decide(*due)
    assert [(r.verdict.decision, r.answers) for r in rulings] == [("authorized", None)]
    assert recorder.rows(CERTIFICATES)[0].status == "revoked"
    assert recorder.rows(REVOCATIONS)[0].serial == item.certificate.serial


def test_signatures_that_a_crash_lost_are_asked_for_once_at_the_start(recorder: RecorderOnStore) -> None:
    item = recorder.items.redeem()
    recorder.decide(recorder.items.mint(), item)
    recorder.restart()
    due = recorder.due()
    assert due == [Resign(certificate=item.certificate)]
    recorder.do(*due)
    assert recorder.rows(CERTIFICATES)[0].signature is not None
    assert not [each for each in recorder.due() if isinstance(each, Resign)]


def test_descendants_are_read_from_the_store_level_by_level(recorder: RecorderOnStore) -> None:
    serial = parent = recorder.issue(TOKEN)
    for number, letter in enumerate("bcd"):
        child = recorder.issue(letter * 16, number)
        with recorder.engine.begin() as tx:
            values = {"parent": parent, "parent_lineage": parent}
            tx.execute(update(CERTIFICATES).where(CERTIFICATES.c.serial == child).values(values))
        parent = child
    other = recorder.issue("e" * 16, 9)
    rulings = recorder.do(recorder.items.revoke(serial, "keyCompromise"))
    assert [type(r.item).__name__ for r in rulings] == ["Revoke"] + ["RevokeDescendant"] * 3
    states = {row.serial: row.status for row in recorder.rows(CERTIFICATES)}
    assert [serial for serial, state in states.items() if state == "active"] == [other]


def test_a_shard_goes_whole_when_its_certificates_are_long_expired(recorder: RecorderOnStore) -> None:
    first = recorder.issue(TOKEN)
    for number in (2, 3):
        recorder.wait(3700)
        recorder.do(recorder.items.mint(token_id="abcdefgh"[number] * 16))
        item = recorder.items.redeem(token_id="abcdefgh"[number] * 16, shard=number, spki_digest=key(number))
        assert recorder.do(item)[0].verdict.decision == "authorized"
    recorder.publish()
    assert [row.number for row in recorder.rows(SHARDS)] == [1, 2, 3]
    recorder.wait(2 * 86400)
    recorder.publish()
    assert [row.number for row in recorder.rows(SHARDS)] == [2, 3]
    assert sorted(row.shard for row in recorder.rows(CRLS)) == [COMPLETE, 2, 3]
    recorder.do(recorder.items.revoke(first))
    recorder.wait(1)
    assert recorder.publish() == [(COMPLETE, 3, 0)]
