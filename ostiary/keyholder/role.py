"""The keyholder's role: harden, unseal, give up privileges, answer the recorder.

Rules:
- Of the settings a keyholder reads what it needs and no more: the application and the name of its
  key-encryption key. Everything that widens what a key may do is sealed with the keys.
- It starts as the supervisor's user, because the key-encryption key may belong to that one, and becomes its
  own user before it listens.
- What this module imports is part of the trusted base (tests/test_keyholder_closure.py counts it): no store,
  no recorder, no HTTP, no command line.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import msgspec

from ostiary.edge import config as config_file
from ostiary.edge.files import read_private
from ostiary.edge.home import ServiceHome
from ostiary.edge.hygiene import harden_process
from ostiary.edge.kek import load_kek
from ostiary.edge.passphrase_file import passphrase_from_file
from ostiary.edge.role import SUPERVISOR_VARIABLE, announce_ready, die_with_parent
from ostiary.edge.users import RoleName, RoleUsers, role_users_from_environment
from ostiary.errors import Misconfigured
from ostiary.keyholder.engine import Evaluator
from ostiary.keyholder.keys import KEYS_PURPOSE, KeysT, open_keys
from ostiary.keyholder.process import KeyholderPlace, serve_keyholder
from ostiary.keyholder.seal import Sealer

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
    for shortfall in harden_process().shortfalls:
        _log.warning("keyholder-less-protected", extra={"shortfall": shortfall})
    home, users = ServiceHome(home_path), role_users_from_environment()
    settings = config_file.load(home.config, _Settings)

    def unsealed() -> tuple[Evaluator, bytes]:
        kek = load_kek(
            settings.kek, settings.application, service, directory=home.keyholder, ask=passphrase_from_file
        )
        blob = read_private(home.sealed_keys, limit_bytes=_MAX_SEALED_BYTES)
        keys = open_keys(blob, kind, Sealer(kek, purpose=KEYS_PURPOSE))
        if keys.application != settings.application:
            raise Misconfigured(f"the sealed keys are of '{keys.application}', not '{settings.application}'")
        return evaluator(keys, kek), keys.ledger_key

    serve_keyholder(
        KeyholderPlace(
            socket=home.channel("keyholder"),
            high_water=home.high_water,
            recorder_uids=frozenset({users.uid(RoleName.RECORDER)}),
            origin=f"{settings.application}/{service}",
        ),
        unsealed=unsealed,
        drop_privileges=lambda: _become(users),
        ready=announce_ready,
    )


def _become(users: RoleUsers) -> None:
    users.become(RoleName.KEYHOLDER)
    # A change of user clears what was set before exec (prctl(2), PR_SET_PDEATHSIG), and makes the process
    # dumpable again.
    if supervisor := os.environ.get(SUPERVISOR_VARIABLE):
        die_with_parent(int(supervisor))
    harden_process()
