"""Fills the store of a stopped CA with certificates by the recorder's and the keyholder's own code, in one
process: for stores that would take too long to fill through the service.

Each certificate is planned, linted, decided, recorded and signed as it is in the service, in turns as full as
a recorder's may be. What is missing is TLS, HTTP, the CSR and the channels between the roles.
"""

from __future__ import annotations

import os
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from benchmarks.issuing import Node
from ca.certificates.shards import current_shard
from ca.front.enrollment import RANDOM_BYTES, Ask, prepare_for_key, wanted_by_spawn
from ca.home import CAHome
from ca.items import Spawn
from ca.keyholder.evaluator import CAEvaluator
from ca.keyholder.keys import CAKeys
from ca.recorder.role import recorder_service
from ca.store.reader import StoreReader
from ca.store.tables import LEDGER
from ostiary.capabilities import Capabilities, parse_capabilities
from ostiary.certificate import spki_der
from ostiary.edge.files import read_private
from ostiary.edge.kek import load_kek
from ostiary.edge.keyholder_home import KeyholderHome
from ostiary.identity import identity_of
from ostiary.keyholder.engine import Keyholder
from ostiary.keyholder.high_water import FileHighWater
from ostiary.keyholder.keys import KEYS_PURPOSE, load_ledger_key, open_keys
from ostiary.keyholder.protocol import CatchUp, Done, Hello, Resume, ToKeyholder, encode_message
from ostiary.keyholder.seal import Sealer
from ostiary.keyholder.witness import Witness
from ostiary.names import AgentID, SubSystem
from ostiary.peer import peer_item
from ostiary.recorder.batch import Recorder, Turn, ask
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.recorder.service import Settled
from ostiary.store.database import open_for_writing
from tests.support.ca_service import new_key

TURN: Final = 128
"""Certificates of a turn: what rides with them stays within one message to a keyholder."""
_SUBSYSTEM: Final = SubSystem("component-harness")
_ASKED: Final = parse_capabilities(["credential:use"])
_MAX_SEALED_BYTES: Final = 64 * 1024


class Filler:
    """Recorder and keyholder of one stopped CA."""

    def __init__(self, home_path: Path, node: Node) -> None:
        home = CAHome.at(home_path)
        config = home.config()
        self._profile = home.profile()
        self._grant: Capabilities = config.grants[_SUBSYSTEM]
        self._node = node
        self._engine = open_for_writing(config.database_url)
        self._reader = StoreReader(self._engine)
        self._ledger = LedgerStore(self._engine, LEDGER)
        self._recorder = Recorder(engine=self._engine, service=recorder_service(home), ledger=self._ledger)
        self._keyholder = _keyholder(home_path, home)
        self._bring_up_to_date()

    def _bring_up_to_date(self) -> None:
        note, frontier = self._ledger.last_signed()
        self._tell(Hello())
        self._tell(Resume(note=note, size=frontier.size, peaks=b"".join(frontier.peaks)))
        if frontier.size < self._ledger.size:
            missed = self._ledger.leaf_hashes(frontier.size, self._ledger.size)
            self._tell(CatchUp(first=frontier.size, leaf_hashes=missed))

    def _tell(self, message: ToKeyholder) -> object:
        return self._keyholder.answer(encode_message(message))

    def fill(self, count: int) -> float:
        """Make so many certificates; how many in a second."""
        began = time.perf_counter()
        for start in range(0, count, TURN):
            self._turn(min(TURN, count - start))
        return count / (time.perf_counter() - began)

    def _turn(self, count: int) -> None:
        now = datetime.now(UTC)
        shard = current_shard(self._reader.open_shard(now), now).number
        spawner = self._reader.certificate(self._node.spawner.serial)
        assert spawner is not None
        manager = self._node.manager
        by = peer_item(manager.serial, identity_of(manager.certificate))
        items = []
        for _ in range(count):
            wanted = wanted_by_spawn(
                self._profile,
                spawner,
                Ask(
                    subsystem=_SUBSYSTEM,
                    agent=AgentID(str(uuid.uuid4())),
                    capabilities=_ASKED,
                    endpoints=(),
                ),
                grant=self._grant,
                lifetime=self._profile.lifetime,
            )
            prepared = prepare_for_key(
                self._profile,
                wanted,
                spki_der(new_key().public_key()),
                shard=shard,
                now=now,
                random_bytes=os.urandom(RANDOM_BYTES),
            )
            asked = tuple(sorted(_ASKED))
            items.append(Spawn(manager=by, spawner=spawner.serial, asked=asked, certificate=prepared))
        now_ms = time.time_ns() // 1_000_000
        for turn in self._recorder.record([ask(item) for item in items], now_ms=now_ms):
            assert turn is not None, "the store refused a certificate"
            self._settle(turn)

    def _settle(self, turn: Turn) -> None:
        """Have a turn signed; the signatures are stored with the next."""
        done = self._tell(turn.batch)
        assert isinstance(done, Done), done
        self._recorder.unsettled.note = done.note
        for placed in turn.placed:
            assert placed.ruling.verdict.decision == "authorized", placed.ruling.verdict
            assert placed.work is not None
            result = done.results[placed.work]
            assert result.refused is None, result
            settled = Settled(item=placed.ruling.item, index=placed.index, output=result.output)
            self._recorder.unsettled.results.append(settled)

    def close(self) -> None:
        """Store the last signatures; the service may start again afterwards."""
        self._recorder.flush()
        self._engine.dispose()


def _keyholder(home_path: Path, home: CAHome) -> Keyholder:
    config, places = home.config(), KeyholderHome(home_path)
    kek = load_kek(config.kek, config.application, "ca", directory=places.directory)
    blob = read_private(places.sealed_keys, limit_bytes=_MAX_SEALED_BYTES)
    keys = open_keys(blob, CAKeys, Sealer(kek, purpose=KEYS_PURPOSE))
    witness = Witness(
        origin=config.origin,
        key=load_ledger_key(keys.ledger_key),
        high_water=FileHighWater(places.high_water),
    )
    return Keyholder(witness=witness, evaluator=CAEvaluator(keys), clock=lambda: datetime.now(UTC))
