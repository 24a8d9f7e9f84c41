"""A backend for the `keyring` library that keeps passwords in the Linux kernel, in the user's own keyring.

Rules:
- The library never chooses it: everything here is gone at the machine's next start, so its priority is below
  even keyring's `fail`. Name it, with `keyring -b keyutils.backend.KernelKeyring` or in a configuration
  (docs/adr/0002).
- `volatile` tells programs the same: anything irreplaceable needs a copy elsewhere first.
- Every process of the user can read the passwords, as with other keyrings, also from a session that does not
  link to the user keyring (a systemd service): the mask gives READ to the owner, without possession.
- The description `keyring:LENGTH:SERVICE:USERNAME` is unambiguous for any names. It is not secret, because
  /proc/keys shows it.
- A password has at most 32,766 bytes of UTF-8 and may be empty (a marker stands before each).
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

_MARKER: Final = b"="  # the kernel refuses empty payloads with EINVAL
# With the default mask, 0x3f010000, a session that does not possess the key could not read it back.
_PERMISSIONS: Final = mask(possessor=ALL, user=VIEW | READ | SEARCH)


class KernelKeyring(KeyringBackend):
    """Passwords as `user` keys in the user keyring (@u)."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # the library has no annotation there

    volatile = True

    @classproperty
    def priority(cls) -> float:  # noqa: N805 - a property of the class
        """Below `fail` (0), so only a name selects it; RuntimeError where the kernel has no keys."""
        try:
            keyring.serial_of(keyring.USER_KEYRING, create=False)
        except keyring.KeyringError as exc:
            raise RuntimeError(f"needs the kernel's key retention service ({exc.name})") from exc
        return -0.5

    def get_password(self, service: str, username: str) -> str | None:
        """Return the password, None if there is none."""
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
        """Delete the password; PasswordDeleteError if there is none."""
        try:
            serial = _find(service, username)
            if serial is not None:
                keyring.unlink(serial, keyring.USER_KEYRING)
        except keyring.KeyringError as exc:
            raise PasswordDeleteError(str(exc)) from exc
        if serial is None:
            raise PasswordDeleteError("password not found")


def _store(description: str, payload: bytes) -> None:
    """Make the key aside, then link it into the user keyring whole, replacing an earlier one.

    1. Make a temporary keyring in the session, which therefore possesses what is in it. 2. Make the key there
    and set its mask, which takes possession: a session need not link to the user keyring. 3. Link the key;
    linking displaces a key of the same type and description. 4. Unlink the temporary keyring.
    """
    # 1. not a thread or process keyring: request_key(2) would then put new keys there
    aside = keyring.add_key("keyring", f"keyring-aside:{uuid.uuid4()}", b"", keyring.SESSION_KEYRING)
    try:
        # 2. and 3.
        serial = keyring.add_key("user", description, payload, aside)
        keyring.setperm(serial, _PERMISSIONS)
        keyring.link(serial, keyring.USER_KEYRING)
    finally:
        # 4. the key stays, as the user keyring links to it
        keyring.unlink(aside, keyring.SESSION_KEYRING)


def _find(service: str, username: str) -> keyring.KeySerial | None:
    try:
        return keyring.search(keyring.USER_KEYRING, "user", _description(service, username))
    except (keyring.NoSuchKey, keyring.KeyExpired, keyring.KeyRevoked):
        return None


def _description(service: str, username: str) -> str:
    # The length separates the names: ("a", "b:c") and ("a:b", "c") would otherwise be one.
    return f"keyring:{len(service)}:{service}:{username}"
