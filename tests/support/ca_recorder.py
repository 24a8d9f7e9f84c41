"""A CA's recorder on a store of its own, for tests: real decisions and statements; the test is the
keyholder.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import Engine, select

from ca.items import PublishCRL
from ca.recorder.publishing import Publisher
from ca.recorder.recording import CAService, CASettings
from ca.store.certificate_columns import read_certificates
from ca.store.rows import CertificateRow
from ca.store.tables import CERTIFICATES, CRLS
from ca.store.tbs_packing import Templates
from ostiary.certificate import ECDSA_SHA256
from ostiary.recorder.batch import ask
from ostiary.recorder.service import Ruling, Settled
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade
from ostiary.work.item import Item
from tests.support.ca_authority import CONFIG, AuthorityForTests
from tests.support.ca_decisions import GRANTS, RecorderInMemory, key

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
                Settled(item=ruling.item, index=0, output=signature_of(ruling))
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

    def certificates(self) -> list[CertificateRow]:
        with self.engine.begin() as tx:
            return read_certificates(tx, select(CERTIFICATES), Templates())

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


def signature_of(ruling: Ruling) -> bytes:
    """What the keyholder would make of a ruling; a certificate's is over bytes of no matter here."""
    tbs = ruling.attachment or b"certificate"
    return CA.key.sign(tbs, ec.ECDSA(hashes.SHA256(), deterministic_signing=True))


@contextmanager
def recorder_on_store(directory: Path) -> Iterator[RecorderOnStore]:
    """Yield a recorder with an empty store of the newest revision."""
    with recorder_at(sqlite_url(directory / "store.sqlite")) as made:
        yield made


@contextmanager
def recorder_at(url: str) -> Iterator[RecorderOnStore]:
    """The same for an empty database of any kind."""
    engine = open_for_writing(url)
    upgrade(engine, migrations="ca.store.migrations")
    yield RecorderOnStore(engine)
    engine.dispose()
