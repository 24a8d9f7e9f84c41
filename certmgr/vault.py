"""Storage that outlives the manager's process: keys in its user's keyring, in kernel memory, never on disk.

    @u, the user keyring of the manager's user
      keyring ostiary-certmgr:<uuid of the manager>
        user keys agent:<uuid>, ledger:<origin>

Rules:
- Open the vault on the main thread before others start: the session keyring that gives access belongs to a
  thread, and the threads that it starts inherit it.
- A key expires with its content, so a manager that never returns leaves nothing behind.
- Every process of the manager's user can read the vault, so give the manager a user of its own.
- Without the key retention service, or over its quota, records live in this process only, and `lacks` gives
  the reason.
"""

from __future__ import annotations

import contextlib
import threading
from typing import Final

from keyutils import keyring
from keyutils.keyring import MAX_PAYLOAD_BYTES, KeyringError, KeySerial
from ostiary.identity import AgentID

_PREFIX: Final = "ostiary-certmgr:"
_MAX_TIMEOUT_S: Final = 400 * 86_400  # as long as the longest certificate; the handler has the same bound


class Vault:
    """Named contents in the kernel; thread-safe. `lacks` says why contents do not survive, else None."""

    def __init__(self, manager: AgentID) -> None:
        self._lock = threading.Lock()  # around add_key and set_timeout, which are two calls
        self._ring: KeySerial | None = None
        self.lacks: str | None = None
        try:
            self._ring = _open(_PREFIX + manager)
        except KeyringError as exc:
            self.lacks = f"the key retention service refuses ({exc.name})"

    def save(self, name: str, content: bytes, *, timeout_s: int) -> bool:
        """Keep `content` under `name`, replacing any earlier one; return whether it survives this process."""
        if self._ring is None or len(content) > MAX_PAYLOAD_BYTES:
            return False
        with self._lock:
            try:
                # add_key(2) updates a key of the same description in place, so a reader never finds none. An
                # update clears the timeout; hence the second call, and never 0, which would mean "never".
                serial = keyring.add_key("user", name, content, self._ring)
                keyring.set_timeout(serial, max(1, min(timeout_s, _MAX_TIMEOUT_S)))
            except KeyringError as exc:
                self.lacks = f"the kernel takes no more keys of this user ({exc.name})"
                return False
        return True

    def drop(self, name: str) -> None:
        """Forget one content; a name that is not there is fine."""
        if self._ring is None:
            return
        with self._lock, contextlib.suppress(KeyringError):
            # Not revoke: a revoked key stays and would refuse a later `save` under its name.
            keyring.invalidate(keyring.search(self._ring, "user", name))

    def load(self) -> dict[str, bytes]:
        """Return all contents that are readable; expired ones are not."""
        if self._ring is None:
            return {}
        found = {}
        with self._lock:
            for serial in keyring.read_keyring(self._ring):
                with contextlib.suppress(KeyringError):
                    found[keyring.describe(serial).description] = keyring.read(serial)
        return found


def _open(name: str) -> KeySerial:
    """Join a session that possesses the user keyring, and find or make our keyring in it."""
    # Without possession even the owner may only view these keys (mask 0x3f010000). Not every session links to
    # @u: systemd gives a service a new one that does not (KeyringMode=private, systemd.exec(5)).
    session = keyring.join_session()
    keyring.link(keyring.USER_KEYRING, session)
    try:
        return keyring.search(keyring.USER_KEYRING, "keyring", name)
    except KeyringError:
        return keyring.add_key("keyring", name, b"", keyring.USER_KEYRING)
