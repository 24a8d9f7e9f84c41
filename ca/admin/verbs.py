"""All verbs that operators have over a CA: tokens, certificates, the ledger, and the CA's status.

A verb that changes something submits a work item on the recorder's admin channel, with the operator's name in
it. A verb that only reads asks the store, by index, a page at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Engine

from ca.admin.certificate_verbs import certificate_verbs
from ca.admin.token_verbs import token_verbs
from ca.home import CAHome
from ca.store.reader import feed_end, newest_shard
from ca.store.tables import LEDGER
from ostiary.admin.ledger_verbs import ledger_verbs
from ostiary.admin.server import Verb
from ostiary.ledger.checkpoint import read_checkpoint
from ostiary.recorder.client import RecorderClient
from ostiary.store.ledger_reader import LedgerReader
from ostiary.work.item import Operator


def make_verbs(home: CAHome, recorder: RecorderClient, engine: Engine) -> Mapping[str, Verb]:
    """The verbs by name; `engine` cannot write."""
    config = home.config()

    def status(_operator: Operator, _arguments: dict[str, Any]) -> dict[str, Any]:
        with engine.begin() as tx:
            shard = newest_shard(tx)
            revocations = feed_end(tx)
            checkpoint = read_checkpoint(LedgerReader(tx, LEDGER).note())
        return {
            "application": config.application,
            "url": config.url,
            "status_url": config.status_url,
            "ledger_entries": checkpoint.size,
            "revocations": revocations,
            "shard": None if shard is None else {"number": shard.number, "certificates": shard.count},
        }

    return {
        **token_verbs(home, recorder, engine),
        **certificate_verbs(home, recorder, engine),
        **ledger_verbs(engine, LEDGER, origin=config.origin),
        "status": status,
    }
