"""Bringing a keyholder up to date: in which order, and what ends it."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from sqlalchemy import MetaData

from ostiary.edge.frame import Status
from ostiary.edge.hub import Hub
from ostiary.keyholder.protocol import (
    CatchUp,
    Document,
    FromKeyholder,
    Hello,
    Prime,
    Primed,
    Refusal,
    Resume,
    ToKeyholder,
    TreeState,
    decode_request,
    encode_message,
)
from ostiary.keyholder.recorder_socket import RecorderSocket
from ostiary.ledger.checkpoint import Checkpoint, sign
from ostiary.ledger.tree import Frontier, leaf_hashes
from ostiary.recorder import keyholder_link
from ostiary.recorder.keyholder_link import KeyholderLink
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.ledger_tables import define_ledger_tables
from ostiary.work.item import RawItem

METADATA = MetaData()
TABLES = define_ledger_tables(METADATA)
UID = frozenset({os.getuid()})
ORIGIN = "shop.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)
ENTRIES = [b'{"serial":"%x"}' % n for n in range(10)]
SIGNED = 6
DOCUMENTS = [Document(approval=RawItem(b"%d" % n), manifest=b"m") for n in range(2)]


class ScriptedKeyholder:
    """A keyholder's end in a thread: keeps what it was told; `size` and `must_pass` are what it says of its
    tree, None for a fresh one.
    """

    def __init__(self, path: Path) -> None:
        self.heard: list[ToKeyholder] = []
        self.size: int | None = None
        self.must_pass = 0
        self.refuses: type[ToKeyholder] | None = None
        self._socket = RecorderSocket(path, recorder_uids=UID)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stopped.is_set():
            for request in self._socket.requests(0.01):
                request.reply(Status.OK, encode_message(self._answer(decode_request(request.body))))
        self._socket.close()

    def _answer(self, message: ToKeyholder) -> FromKeyholder:
        self.heard.append(message)
        if self.refuses is not None and isinstance(message, self.refuses):
            return Refusal(reason="scripted")
        match message:
            case Prime():
                return Primed()
            case Resume(size=size):
                self.size = size
            case CatchUp(first=first, leaf_hashes=hashes):
                self.size = first + len(hashes) // 32
        return TreeState(
            origin=ORIGIN, fresh=self.size is None, size=self.size or 0, must_pass=self.must_pass
        )

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()


@pytest.fixture
def keyholder(tmp_path: Path) -> Iterator[ScriptedKeyholder]:
    keyholder = ScriptedKeyholder(tmp_path / "k")
    yield keyholder
    keyholder.stop()


@pytest.fixture
def link(tmp_path: Path) -> Iterator[KeyholderLink]:
    """Of a recorder whose store has ten entries, and a checkpoint of the first six."""
    engine = open_for_writing(sqlite_url(tmp_path / "store"))
    with engine.begin() as tx:
        METADATA.create_all(tx)
    ledger = LedgerStore(engine, TABLES)
    with engine.begin() as tx:
        appended = ledger.append(tx, ENTRIES, [None] * len(ENTRIES))
        signed = Frontier().extend(leaf_hashes(ENTRIES[:SIGNED]))
        ledger.store_note(tx, sign(Checkpoint.of(ORIGIN, signed), ORIGIN, KEY))
    ledger.advance(appended)
    hub = Hub()
    yield KeyholderLink(
        hub=hub, path=tmp_path / "k", expected_uids=UID, ledger=ledger, documents=lambda: DOCUMENTS
    )
    hub.close()
    engine.dispose()


def test_a_fresh_keyholder_is_resumed_shown_what_it_missed_and_primed(
    link: KeyholderLink, keyholder: ScriptedKeyholder
) -> None:
    assert [link.ready, link.try_connect(), link.ready] == [False, True, True]
    hello, resume, catch_up, *primes = keyholder.heard
    assert hello == Hello()
    assert isinstance(resume, Resume)
    assert resume.size == SIGNED
    assert catch_up == CatchUp(first=SIGNED, leaf_hashes=b"".join(leaf_hashes(ENTRIES[SIGNED:])))
    assert primes == [Prime(documents=(document,)) for document in DOCUMENTS]


def test_a_keyholder_that_lived_on_is_only_shown_what_it_missed(
    link: KeyholderLink, keyholder: ScriptedKeyholder
) -> None:
    keyholder.size = 9
    assert link.try_connect()
    assert [type(message) for message in keyholder.heard] == [Hello, CatchUp, Prime, Prime]


def test_what_it_missed_stops_at_the_newest_tree_that_it_signed(
    link: KeyholderLink, keyholder: ScriptedKeyholder
) -> None:
    keyholder.must_pass = 8
    assert link.try_connect()
    shown = [message.first for message in keyholder.heard if isinstance(message, CatchUp)]
    assert shown == [SIGNED, 8]


def test_a_long_absence_is_shown_in_parts(
    link: KeyholderLink, keyholder: ScriptedKeyholder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keyholder_link, "CATCH_UP_LEAVES", 3)
    assert link.try_connect()
    shown = [message.first for message in keyholder.heard if isinstance(message, CatchUp)]
    assert shown == [6, 9]


@pytest.mark.parametrize("step", [Hello, Resume, CatchUp, Prime])
def test_a_refusal_at_any_step_leaves_the_service_refusing_work(
    link: KeyholderLink,
    keyholder: ScriptedKeyholder,
    step: type[ToKeyholder],
    caplog: pytest.LogCaptureFixture,
) -> None:
    keyholder.refuses = step
    assert not link.try_connect()
    assert not link.ready
    assert "keyholder-refuses-the-ledger" in caplog.text


def test_a_store_that_was_rewound_is_not_shown_to_its_keyholder(
    link: KeyholderLink, keyholder: ScriptedKeyholder, caplog: pytest.LogCaptureFixture
) -> None:
    keyholder.size = 11
    assert not link.try_connect()
    (record,) = caplog.records
    assert "the store was rewound" in record.reason  # type: ignore[attr-defined] # set by `extra`


def test_without_a_keyholder_there_is_nothing_to_send_to(link: KeyholderLink) -> None:
    assert not link.try_connect()
    assert not link.ready


def test_the_end_of_an_earlier_connection_does_not_end_this_one(
    link: KeyholderLink, keyholder: ScriptedKeyholder
) -> None:
    assert link.try_connect()
    assert [link.lost("keyholder-0"), link.ready] == [False, True]
    assert [link.lost("keyholder-1"), link.ready] == [True, False]
