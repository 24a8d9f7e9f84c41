"""The keyholder's process: one socket, one peer, one thread.

Order of its start (DESIGN section 3: nothing is unsealed before the process is closed to others):
1. Harden: no core, not dumpable, locked memory.
2. Read the key-encryption key through the `keyring` library, open the sealed keys; give up privileges.
3. Open the high-water mark and the socket as the keyholder's own user; say that it is ready.
4. Answer the recorder until the end.

It has no network and no store; the modules it imports are the trusted base.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from ostiary.edge.frame import Status
from ostiary.errors import BadInput
from ostiary.keyholder.engine import Evaluator, Keyholder
from ostiary.keyholder.high_water import FileHighWater
from ostiary.keyholder.keys import load_ledger_key
from ostiary.keyholder.protocol import Refusal, encode_message
from ostiary.keyholder.recorder_socket import RecorderSocket, Request
from ostiary.keyholder.witness import Witness

_log = logging.getLogger("ostiary.keyholder")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyholderPlace:
    """Where a keyholder lives and who may speak to it."""

    socket: Path
    high_water: Path
    recorder_uids: frozenset[int]
    origin: str


def serve_keyholder(
    place: KeyholderPlace,
    *,
    unsealed: Callable[[], tuple[Evaluator, bytes]],
    drop_privileges: Callable[[], None],
    ready: Callable[[], None],
) -> None:
    """Run for ever. `unsealed` returns the evaluator and the ledger key (PKCS#8 DER); the process was
    hardened before.
    """
    evaluator, ledger_key = unsealed()
    drop_privileges()
    high_water = FileHighWater(place.high_water)
    recorders = RecorderSocket(place.socket, recorder_uids=place.recorder_uids)
    witness = Witness(origin=place.origin, key=load_ledger_key(ledger_key), high_water=high_water)
    keyholder = Keyholder(witness=witness, evaluator=evaluator, clock=lambda: datetime.now(UTC))
    ready()
    _log.info("keyholder-ready", extra={"origin": place.origin, "pid": os.getpid()})
    while True:
        for request in recorders.requests(None):
            _answer(keyholder, request)


def _answer(keyholder: Keyholder, request: Request) -> None:
    answer = keyholder.answer(request.body)
    if isinstance(answer, Refusal):
        _log.error("refused", extra={"reason": answer.reason, "pid": request.peer.pid})
    try:
        request.reply(Status.OK, encode_message(answer))
    except BadInput as exc:
        # The outputs of a batch may exceed a frame together; that must not end the keyholder.
        _log.error("refused", extra={"reason": exc.message, "pid": request.peer.pid})
        request.reply(Status.OK, encode_message(Refusal(reason=f"answer-too-large: {exc.message}")))
