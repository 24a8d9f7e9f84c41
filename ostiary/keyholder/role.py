"""The keyholder's process: one socket, one peer, one thread.

Order of its life (nothing is unsealed before the process is closed to others):
1. Harden: no core, not dumpable, locked memory.
2. Read the settings; of those a keyholder takes the application and the name of its key-encryption key. All
   that widens what a key may do is sealed with the keys.
3. Open the sealed keys, as the supervisor's user, to whom the key-encryption key may belong.
4. Become the keyholder's own user.
5. Open the high-water mark and the socket; say that it is ready.
6. Answer the recorder until the end.

What this module imports is the trusted base (tests/test_keyholder_closure.py counts it): no store, no
recorder, no HTTP, no command line.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.edge import config as config_file
from ostiary.edge.files import read_private
from ostiary.edge.frame import Status
from ostiary.edge.hygiene import harden_process
from ostiary.edge.kek import load_kek
from ostiary.edge.keyholder_home import KeyholderHome
from ostiary.edge.role import SUPERVISOR_VARIABLE, announce_ready, die_with_parent
from ostiary.edge.users import RoleName, RoleUsers, role_users_from_environment
from ostiary.errors import BadInput, Misconfigured
from ostiary.keyholder.engine import Evaluator, Keyholder
from ostiary.keyholder.high_water import FileHighWater
from ostiary.keyholder.keys import KEYS_PURPOSE, KeysT, load_ledger_key, open_keys
from ostiary.keyholder.protocol import Refusal, encode_message
from ostiary.keyholder.recorder_socket import RecorderSocket, Request
from ostiary.keyholder.seal import Sealer
from ostiary.keyholder.witness import Witness

_log = logging.getLogger("ostiary.keyholder")
_MAX_SEALED_BYTES: Final = 64 * 1024


class _Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The part of config.toml that a keyholder reads; the service's own type checks the rest."""

    application: str
    kek: str


def run_keyholder(
    home_path: Path, *, service: str, kind: type[KeysT], evaluator: Callable[[KeysT, bytes], Evaluator]
) -> None:
    """Be the keyholder of the service at `home_path`; `evaluator` gets its keys and the key-encryption key
    (32 bytes).

    `service` is its word in the ledger's origin and in the name of the key-encryption key. Misconfigured
    where the sealed keys are another application's, or not there.
    """
    # 1.
    for shortfall in harden_process():
        _log.warning("keyholder-less-protected", extra={"shortfall": shortfall})
    # 2.
    home, users = KeyholderHome(home_path), role_users_from_environment()
    settings = config_file.load(home.config, _Settings)
    origin = f"{settings.application}/{service}"
    # 3.
    # In a frame of its own: the key-encryption key and the keys in clear are freed when it returns (and with
    # that overwritten, ostiary/roles.py says how), not kept for the life of the process.
    evaluates, ledger_key = _unseal(home, settings, service, kind, evaluator)
    # 4.
    _become(users)
    # 5.
    witness = Witness(origin=origin, key=ledger_key, high_water=FileHighWater(home.high_water))
    recorders = RecorderSocket(home.socket, recorder_uids=frozenset({users.uid(RoleName.RECORDER)}))
    keyholder = Keyholder(witness=witness, evaluator=evaluates, clock=lambda: datetime.now(UTC))
    announce_ready()
    _log.info("keyholder-ready", extra={"origin": origin, "pid": os.getpid()})
    # 6.
    while True:
        for request in recorders.requests(None):
            answer_request(keyholder, request)


def answer_request(keyholder: Keyholder, request: Request) -> None:
    """Answer one message of a recorder, whatever it holds."""
    answer = keyholder.answer(request.body)
    if isinstance(answer, Refusal):
        _log.error("request-refused", extra={"reason": answer.reason, "pid": request.peer.pid})
    try:
        request.reply(Status.OK, encode_message(answer))
    except BadInput as exc:
        # The outputs of a batch may exceed a frame together; that must not end the keyholder.
        _log.error("request-refused", extra={"reason": exc.message, "pid": request.peer.pid})
        request.reply(Status.OK, encode_message(Refusal(reason=f"answer-too-large: {exc.message}")))


def _unseal(
    home: KeyholderHome,
    settings: _Settings,
    service: str,
    kind: type[KeysT],
    evaluator: Callable[[KeysT, bytes], Evaluator],
) -> tuple[Evaluator, Ed25519PrivateKey]:
    """What evaluates, and the ledger's key."""
    kek = load_kek(settings.kek, settings.application, service, directory=home.directory, ask=_passphrase)
    blob = read_private(home.sealed_keys, limit_bytes=_MAX_SEALED_BYTES)
    keys = open_keys(blob, kind, Sealer(kek, purpose=KEYS_PURPOSE))
    if keys.application != settings.application:
        raise Misconfigured(
            f"the sealed keys belong to '{keys.application}', not to '{settings.application}'"
        )
    return evaluator(keys, kek), load_ledger_key(keys.ledger_key)


def _passphrase() -> str:
    # Only a `prompt` key has one.
    from ostiary.edge.passphrase_file import passphrase_from_file  # noqa: PLC0415 - see above

    return passphrase_from_file()


def _become(users: RoleUsers) -> None:
    users.become(RoleName.KEYHOLDER)
    # A change of user clears what was set before exec (prctl(2), PR_SET_PDEATHSIG), and makes the process
    # dumpable again.
    if supervisor := os.environ.get(SUPERVISOR_VARIABLE):
        die_with_parent(int(supervisor))
    harden_process()
