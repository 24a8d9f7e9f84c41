"""Where the manager's records outlive its process: keys in a keyring of its user, in kernel memory, never on
disk.

    user keyring of the manager's user -> keyring `ostiary-certmgr:<manager's uuid>` -> keys `agent:<uuid>`,
    `ledger:<origin>`

Rules:
- Open it on the main thread, before others start: the session keyring that gives access belongs to a thread
  and those it starts.
- A key expires with what it holds, so nothing is left over from a manager that never came back.
- Whoever runs as the manager's user can read it: the manager wants a user of its own.
- Without the key retention service, or over its quota, records live in this process only, and `lacks` says
  so.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Final

from keyutils import keyring
from keyutils.keyring import MAX_PAYLOAD_BYTES, KeyringError, KeySerial
from ostiary.identity import AgentID

_PREFIX: Final = "ostiary-certmgr:"
_MAX_TIMEOUT_S: Final = 400 * 86_400


class Vault:
    """Named contents in the kernel; thread-safe. `lacks` is None or says why contents do not survive."""

    def __init__(self, manager: AgentID) -> None:
        self._lock = threading.Lock()
        self._ring: KeySerial | None = None
        self.lacks: str | None = None
        try:
            self._ring = _open(_PREFIX + manager)
        except KeyringError as exc:
            self.lacks = f"the key retention service refuses ({exc.name})"

    def save(self, name: str, content: bytes, *, timeout_s: int) -> bool:
        """Keep `content`, replacing what was there; whether it will survive this process."""
        if self._ring is None or len(content) > MAX_PAYLOAD_BYTES:
            return False
        with self._lock:
            try:
                serial = keyring.add_key("user", name, content, self._ring)
                keyring.set_timeout(serial, max(1, min(timeout_s, _MAX_TIMEOUT_S)))
            except KeyringError as exc:
                self.lacks = f"the kernel keeps no more keys of this user ({exc.name})"
                return False
        return True

    def drop(self, name: str) -> None:
        """Forget one."""
        if self._ring is None:
            return
        with self._lock, contextlib.suppress(KeyringError):
            keyring.invalidate(keyring.search(self._ring, "user", name))

    def load(self) -> dict[str, bytes]:
        """Return all that is there and readable."""
        if self._ring is None:
            return {}
        found = {}
        with self._lock:
            for serial in keyring.read_keyring(self._ring):
                with contextlib.suppress(KeyringError):
                    found[keyring.describe(serial).description] = keyring.read(serial)
        return found


def _open(name: str) -> KeySerial:
    """Join a session that possesses the user keyring, and find or make ours in it."""
    session = keyring.join_session()
    keyring.link(keyring.USER_KEYRING, session)
    try:
        return keyring.search(keyring.USER_KEYRING, "keyring", name)
    except KeyringError:
        return keyring.add_key("keyring", name, b"", keyring.USER_KEYRING)
