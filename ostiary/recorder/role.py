"""The recorder's role: bring the store up to date, open the channels, take turns until told to stop."""

from __future__ import annotations

import os
from collections.abc import Mapping

from sqlalchemy import Engine

from ostiary.edge.hub import Hub
from ostiary.edge.metrics import MetricsFile
from ostiary.edge.place import Place
from ostiary.edge.role import announce_ready
from ostiary.edge.stop_signal import StopSignal
from ostiary.edge.users import RoleName
from ostiary.keyholder.protocol import Document
from ostiary.recorder.batch import Recorder
from ostiary.recorder.keyholder_link import KeyholderLink
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.recorder.process import RecorderLoop
from ostiary.recorder.service import Service
from ostiary.store.database import open_for_writing
from ostiary.store.ledger_tables import LedgerTables
from ostiary.store.migrate import upgrade


def run_recorder(
    place: Place,
    service: Service,
    tables: LedgerTables,
    channels: Mapping[str, RoleName],
    *,
    migrations: str,
) -> None:
    """Be the recorder; `channels` says which role may ask on which channel, `migrations` is the package of
    the store's revisions.
    """
    # The readers' group may read what is written here.
    os.umask(0o027)
    # The engine that migrated is closed: what serves has opened the store as it is now.
    older = open_for_writing(place.database_url)
    upgrade(older, migrations=migrations)
    older.dispose()
    engine = open_for_writing(place.database_url)
    ledger = LedgerStore(engine, tables)
    hub = Hub()
    for channel, role in channels.items():
        uids = frozenset({place.users.uid(role)})
        # 0666: the directory decides who may enter, SO_PEERCRED who is heard (ostiary/edge/home_layout.py).
        hub.listen(place.home.channel(channel), channel=channel, allowed_uids=uids, mode=0o666)
    link = KeyholderLink(
        hub=hub,
        path=place.home.channel("keyholder"),
        expected_uids=frozenset({place.users.uid(RoleName.KEYHOLDER)}),
        ledger=ledger,
        documents=lambda: _documents(engine, service),
    )
    recorder = Recorder(engine=engine, service=service, ledger=ledger)
    loop = RecorderLoop(hub=hub, service=service, recorder=recorder, keyholder=link)
    stop = StopSignal()
    hub.watch(stop.fd, name="stop")
    shown = MetricsFile(place.home.recorder_metrics, recorder.metrics, prefix="ostiary_recorder")
    announce_ready()
    # The signal wakes the loop but does not interrupt it: a turn that has begun is committed and handed on.
    while not stop.received:
        loop.step()
        shown.show()
    if recorder.unsettled:
        recorder.flush()


def _documents(engine: Engine, service: Service) -> list[Document]:
    with engine.begin() as tx:
        return service.documents(tx)
