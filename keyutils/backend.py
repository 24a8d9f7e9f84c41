"""A backend for the `keyring` library that keeps passwords in the Linux kernel, in the user's own keyring.

Rules:
- Never chosen by itself: everything here is gone at the next start of the machine, so the priority is below
  even keyring's `fail`. Name it: `keyring -b keyutils.backend.KernelKeyring`, or in a configuration.
- `volatile` says so to programs: whoever stores something irreplaceable here first makes a copy elsewhere.
- Readable by every process of the user, as other keyrings are, also from a session that doesn't link to the
  user keyring (a systemd service): the key's own mask gives its owner READ, possession is not needed.
- The description `keyring:LENGTH:SERVICE:USERNAME` is exact for any names; it is no secret (/proc/keys shows
  it).
- At most 32,766 bytes of UTF-8; an empty password can be stored (a marker stands before each).
"""

from __future__ import annotations

import uuid
from typing import Final

from keyring.backend import KeyringBackend
from keyring.compat.properties import classproperty
from keyring.errors import KeyringError as LibraryError
from keyring.errors import PasswordDeleteError, PasswordSetError

from keyutils import keyring
from keyutils.permissions import ALL, READ, SEARCH, VIEW, mask

_MARKER: Final = b"="  # the kernel refuses empty payloads
_PERMISSIONS: Final = mask(possessor=ALL, user=VIEW | READ | SEARCH)


class KernelKeyring(KeyringBackend):
    """Passwords as `user` keys in the user keyring (@u)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the library has no annotation there

    volatile = True

    @classproperty
    def priority(cls) -> float:  # noqa: N805 - a property of the class
        """Below `fail` (0): used only when named; RuntimeError where the kernel has no keys."""
        try:
            keyring.serial_of(keyring.USER_KEYRING, create=False)
        except keyring.KeyringError as exc:
            raise RuntimeError(f"needs the kernel's key retention service ({exc.name})") from exc
        return -0.5

    def get_password(self, service: str, username: str) -> str | None:
        """Return the password, None where there is none."""
        try:
            serial = _find(service, username)
            return None if serial is None else keyring.read(serial)[len(_MARKER) :].decode()
        except keyring.KeyringError as exc:
            raise LibraryError(str(exc)) from exc

    def set_password(self, service: str, username: str, password: str) -> None:
        """Store or replace the password."""
        try:
            _store(_description(service, username), _MARKER + password.encode())
        except keyring.KeyringError as exc:
            raise PasswordSetError(str(exc)) from exc

    def delete_password(self, service: str, username: str) -> None:
        """Take the password away; PasswordDeleteError where there is none."""
        try:
            serial = _find(service, username)
            if serial is not None:
                keyring.unlink(serial, keyring.USER_KEYRING)
        except keyring.KeyringError as exc:
            raise PasswordDeleteError(str(exc)) from exc
        if serial is None:
            raise PasswordDeleteError("password not found")


def _store(description: str, payload: bytes) -> None:
    """Make the key, then put it in place whole, over an earlier one.

    Its mask can only be set by its possessor, and a session need not link to the user keyring: so the key is
    made in a keyring of the session that lives for this moment (a thread or process keyring would redirect
    request_key).
    """
    desk = keyring.add_key("keyring", f"keyring-desk:{uuid.uuid4()}", b"", keyring.SESSION_KEYRING)
    try:
        serial = keyring.add_key("user", description, payload, desk)
        keyring.setperm(serial, _PERMISSIONS)
        keyring.link(serial, keyring.USER_KEYRING)
    finally:
        keyring.unlink(desk, keyring.SESSION_KEYRING)


def _find(service: str, username: str) -> keyring.KeySerial | None:
    try:
        return keyring.search(keyring.USER_KEYRING, "user", _description(service, username))
    except (keyring.NoSuchKey, keyring.KeyExpired, keyring.KeyRevoked):
        return None


def _description(service: str, username: str) -> str:
    return f"keyring:{len(service)}:{service}:{username}"
