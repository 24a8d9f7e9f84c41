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

from ca.items import ExpirePending, PublishCRL, Resign
from ca.recorder import publishing
from ca.recorder.publishing import COMPLETE, LOST_AFTER_S, REFRESH_S, Publisher
from ca.recorder.recording import CAService, CASettings
from ca.store.tables import CERTIFICATES, CRLS, REVOCATIONS, SHARDS, TOKENS
from ostiary.certificate import ECDSA_SHA256
from ostiary.recorder.batch import ask
from ostiary.recorder.service import Ruling, Settled
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade
from ostiary.work.item import Item
from tests.support.ca_authority import CONFIG, AuthorityForTests
from tests.support.ca_decisions import GRANTS, TOKEN, Desk, key

CA = AuthorityForTests()


@dataclass
class Office:
    """A service with its store; `desk` makes the items and has the clock, `keyholder` answers when it is
    asked to.
    """

    engine: Engine
    desk: Desk = field(default_factory=Desk)
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

    @property
    def now_ms(self) -> int:
        return self.desk.now_s * 1000

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
        agent = self.desk.new_agent()
        self.do(self.desk.mint(token_id=token_id, agent=agent))
        item = self.desk.redeem(token_id=token_id, agent=agent, spki_digest=key(number), shard=1)
        assert self.do(item)[0].verdict.decision == "authorized"
        return item.certificate.serial


def _signature(ruling: Ruling) -> bytes:
    tbs = ruling.attachment or b"certificate"
    return CA.key.sign(tbs, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    engine = open_for_writing(sqlite_url(tmp_path / "store.sqlite"))
    upgrade(engine, migrations="ca.store.migrations")
    yield Office(engine)
    engine.dispose()


def test_two_items_for_one_token_in_one_batch_see_each_other(office: Office) -> None:
    first, second = office.desk.redeem(), office.desk.redeem(spki_digest=key(2))
    rulings = office.decide(office.desk.mint(), first, second)
    verdicts = [(type(r.item).__name__, r.verdict.decision, r.answers) for r in rulings]
    assert verdicts == [
        ("MintToken", "authorized", 0),
        ("Redeem", "authorized", 1),
        ("Redeem", "denied", 2),
        ("Alarm", "authorized", None),
    ]
    assert [row.serial for row in office.rows(CERTIFICATES)] == [first.certificate.serial]
    assert [(row.status, row.contested) for row in office.rows(TOKENS)] == [("spent", True)]
    assert [(row.number, row.count) for row in office.rows(SHARDS)] == [(1, 1)]


def test_the_store_answers_as_the_rows_did(office: Office) -> None:
    item = office.desk.redeem()
    office.do(office.desk.mint(), item)
    same = office.decide(office.desk.redeem())[0]
    assert isinstance(same.item, Resign)
    assert (same.attachment, bool(same.known_output), same.substitute) == (None, True, item.certificate.tbs)
    assert office.decide(office.desk.redeem(spki_digest=key(2)))[0].verdict.rule == "token-spent"
    assert office.decide(office.desk.mint())[0].verdict.rule == "token-taken"


def test_a_serial_number_of_the_store_is_taken(office: Office) -> None:
    serial = office.issue(TOKEN)
    office.do(office.desk.mint(token_id="b" * 16))
    again = office.desk.redeem(token_id="b" * 16, serial=serial, shard=1)
    assert office.decide(again)[0].verdict.rule == "certificate-serial-taken"


def test_lists_are_there_before_anything_is_revoked(office: Office) -> None:
    assert office.publish() == [(COMPLETE, 1, 0)]
    office.issue(TOKEN)
    office.desk.wait(1)
    assert office.publish() == [(1, 1, 0)]
    assert office.crl(1).is_signature_valid(CA.key.public_key())
    assert office.publish() == []


def test_a_revocation_is_listed_in_its_shard_then_in_the_complete_list(office: Office) -> None:
    serials = [office.issue(letter * 16, number) for number, letter in enumerate("abc")]
    office.publish()
    office.do(office.desk.revoke(serials[0], "keyCompromise"))
    assert office.publish() == []  # thisUpdate has whole seconds
    office.desk.wait(1)
    assert office.publish() == [(1, 2, 1), (COMPLETE, 2, 1)]
    office.do(office.desk.revoke(serials[1]))
    office.desk.wait(1)
    assert office.publish() == [(1, 3, 2), (COMPLETE, 3, 2)]
    for shard in (1, COMPLETE):
        found = [entry.serial_number for entry in office.crl(shard)]
        assert found == [int(serial, 16) for serial in serials[:2]]
    assert [row.n for row in office.rows(REVOCATIONS)] == [1, 2]


def test_this_update_and_number_grow_over_a_restart(office: Office) -> None:
    serials = [office.issue(letter * 16, number) for number, letter in enumerate("ab")]
    office.publish()
    office.desk.wait(1)
    office.do(office.desk.revoke(serials[0]))
    office.publish()
    before = office.crl(1)
    office.desk.wait(1)
    office.do(office.desk.revoke(serials[1]))
    office.restart()
    assert {shard for shard, _, _ in office.publish()} == {1, COMPLETE}
    after = office.crl(1)
    assert len(after) == 2
    assert after.last_update_utc > before.last_update_utc


def test_a_list_whose_signature_was_lost_is_made_anew(office: Office) -> None:
    serial = office.issue(TOKEN)
    office.publish()
    office.desk.wait(1)
    office.do(office.desk.revoke(serial))
    lost = office.due()
    office.decide(*lost)
    office.desk.wait(LOST_AFTER_S)
    assert office.publish() == []
    office.desk.wait(1)
    assert (1, 3, 1) in office.publish()
    office.desk.wait(1)
    office.decide(*(office.due() or [office.desk.mint(token_id="b" * 16)]))
    office.restart()
    office.desk.wait(1)
    office.publish()
    assert len(office.crl(1)) == 1


def test_lists_are_refreshed_before_they_end_and_forget_what_expired(office: Office) -> None:
    serial = office.issue(TOKEN)
    office.publish()
    office.do(office.desk.revoke(serial))
    office.desk.wait(1)
    office.publish()
    office.desk.wait(REFRESH_S)
    assert office.publish() == [(1, 3, 1), (COMPLETE, 3, 1)]
    office.desk.wait(REFRESH_S + 7200)
    office.desk.wait(REFRESH_S)
    assert office.publish() == [(1, 4, 0), (COMPLETE, 4, 0)]


def test_a_turn_that_was_undone_leaves_its_lists_due(office: Office) -> None:
    items = office.due()

    class Undone(Exception):
        pass

    with pytest.raises(Undone), office.engine.begin() as tx:
        office.service.decide(tx, [ask(item) for item in items], now_ms=office.now_ms)
        raise Undone
    office.desk.wait(LOST_AFTER_S + 1)
    assert [shard for shard, _, _ in office.publish()] == [COMPLETE]


def test_a_signature_whose_turn_was_undone_is_stored_with_the_next(office: Office) -> None:
    signed = office.decide(*office.due())
    results = [Settled(item=each.item, index=0, output=_signature(each)) for each in signed]
    with office.engine.connect() as tx:
        office.service.settle(tx, results)
        tx.rollback()
    office.settle(signed)
    assert office.crl(COMPLETE).is_signature_valid(CA.key.public_key())
    office.desk.wait(LOST_AFTER_S + 1)
    assert office.publish() == []


def test_lists_that_do_not_fit_into_one_batch_follow_in_the_next(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    serials = [office.issue(TOKEN)]
    office.desk.wait(3700)
    office.do(office.desk.mint(token_id="b" * 16))
    item = office.desk.redeem(token_id="b" * 16, shard=2, spki_digest=key(2))
    assert office.do(item)[0].verdict.decision == "authorized"
    serials.append(item.certificate.serial)
    office.publish()
    office.desk.wait(1)
    office.do(*(office.desk.revoke(serial) for serial in serials))
    monkeypatch.setattr(publishing, "MAX_LIST_BYTES", len(office.crl(1).tbs_certlist_bytes) + 100)
    assert [office.publish() for _ in range(4)] == [[(2, 2, 1)], [(1, 2, 1)], [(COMPLETE, 2, 2)], []]


def test_what_was_not_proven_in_time_is_due(office: Office) -> None:
    boot = {
        "subsystem": "node-controller",
        "bootstrap": True,
        "capabilities": (),
        "address": "192.0.2.1:7443",
    }
    item = office.desk.redeem(subsystem="node-controller", capabilities=())
    office.do(office.desk.mint(**boot), item)
    office.desk.wait(599)
    assert not [each for each in office.due() if isinstance(each, ExpirePending)]
    office.desk.wait(1)
    due = [each for each in office.due() if isinstance(each, ExpirePending)]
    assert due == [ExpirePending(serial=item.certificate.serial)]
    rulings = office.decide(*due)
    assert [(r.verdict.decision, r.answers) for r in rulings] == [("authorized", None)]
    assert office.rows(CERTIFICATES)[0].status == "revoked"
    assert office.rows(REVOCATIONS)[0].serial == item.certificate.serial


def test_signatures_that_a_crash_lost_are_asked_for_once_at_the_start(office: Office) -> None:
    item = office.desk.redeem()
    office.decide(office.desk.mint(), item)
    office.restart()
    due = office.due()
    assert due == [Resign(certificate=item.certificate)]
    office.do(*due)
    assert office.rows(CERTIFICATES)[0].signature is not None
    assert not [each for each in office.due() if isinstance(each, Resign)]


def test_descendants_are_read_from_the_store_level_by_level(office: Office) -> None:
    serial = parent = office.issue(TOKEN)
    for number, letter in enumerate("bcd"):
        child = office.issue(letter * 16, number)
        with office.engine.begin() as tx:
            values = {"parent": parent, "parent_lineage": parent}
            tx.execute(update(CERTIFICATES).where(CERTIFICATES.c.serial == child).values(values))
        parent = child
    other = office.issue("e" * 16, 9)
    rulings = office.do(office.desk.revoke(serial, "keyCompromise"))
    assert [type(r.item).__name__ for r in rulings] == ["Revoke"] + ["RevokeDescendant"] * 3
    states = {row.serial: row.status for row in office.rows(CERTIFICATES)}
    assert [serial for serial, state in states.items() if state == "active"] == [other]


def test_a_shard_goes_whole_when_its_certificates_are_long_expired(office: Office) -> None:
    first = office.issue(TOKEN)
    for number in (2, 3):
        office.desk.wait(3700)
        office.do(office.desk.mint(token_id="abcdefgh"[number] * 16))
        item = office.desk.redeem(token_id="abcdefgh"[number] * 16, shard=number, spki_digest=key(number))
        assert office.do(item)[0].verdict.decision == "authorized"
    office.publish()
    assert [row.number for row in office.rows(SHARDS)] == [1, 2, 3]
    office.desk.wait(2 * 86400)
    office.publish()
    assert [row.number for row in office.rows(SHARDS)] == [2, 3]
    assert sorted(row.shard for row in office.rows(CRLS)) == [COMPLETE, 2, 3]
    office.do(office.desk.revoke(first))
    office.desk.wait(1)
    assert office.publish() == [(COMPLETE, 3, 0)]
