"""Keys of the Linux key retention service, with the verbs of keyrings(7) and keyctl(2).

Rules:
- A `KeySerial` names a key; payloads are bytes; descriptions are text (UTF-8) without NUL.
- Every refusal is a `KeyringError` with the errno and its name, never with a payload.
- Do not make a process keyring (PROCESS_KEYRING) where keys are requested: new keys would go there, and the
  kernel would no longer remember negative answers.
- A session keyring belongs to a *thread*: join one before starting threads; children inherit it.
- `update` clears a key's timeout; set it again.
- To force a renewal, use `invalidate`: a revoked key stays and keeps answering EKEYREVOKED.
- A buffer filled by `read_into` can be wiped; the bytes that `read` returns cannot.
"""

from __future__ import annotations

import ctypes
import errno
import os
from dataclasses import dataclass
from typing import Final, NewType

from keyutils import syscalls

KeySerial = NewType("KeySerial", int)

# The special serials of keyctl(2), negative so that they never collide with a real one (linux/keyctl.h).
THREAD_KEYRING: Final = KeySerial(-1)
PROCESS_KEYRING: Final = KeySerial(-2)
SESSION_KEYRING: Final = KeySerial(-3)
USER_KEYRING: Final = KeySerial(-4)
USER_SESSION_KEYRING: Final = KeySerial(-5)
REQUEST_KEY_AUTHORITY: Final = KeySerial(-7)
DEFAULT_DESTINATION: Final = KeySerial(0)

MAX_PAYLOAD_BYTES: Final = 32_767  # security/keys/user_defined.c
MAX_DESCRIPTION_BYTES: Final = 4_095  # security/keys/keyctl.c, without the final NUL


class KeyringError(OSError):
    """The kernel refused a verb; `errno` says why and `name` spells it (EKEYREJECTED)."""

    def __init__(self, code: int, verb: str) -> None:
        super().__init__(code, f"{verb}: {os.strerror(code)} ({errno.errorcode.get(code, code)})")
        self.verb = verb

    @property
    def name(self) -> str:
        """Spell the errno, e.g. ENOKEY."""
        return errno.errorcode.get(self.errno or 0, str(self.errno))


class NoSuchKey(KeyringError):
    """ENOKEY: there is no such key, or none that this process may find."""


class KeyExpired(KeyringError):
    """EKEYEXPIRED: its timeout has passed."""


class KeyRevoked(KeyringError):
    """EKEYREVOKED: it was revoked."""


class KeyRejected(KeyringError):
    """EKEYREJECTED: the upcall refused to make it."""


_CLASSES: Final = {
    errno.ENOKEY: NoSuchKey,
    errno.EKEYEXPIRED: KeyExpired,
    errno.EKEYREVOKED: KeyRevoked,
    errno.EKEYREJECTED: KeyRejected,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyDescription:
    """The answer of KEYCTL_DESCRIBE; `permissions` is a mask of `keyutils.permissions`."""

    type: str
    uid: int
    gid: int
    permissions: int
    description: str


def add_key(type_: str, description: str, payload: bytes, keyring: KeySerial) -> KeySerial:
    """Add a key to a keyring, or update the one that is there.

    Usual errors: EDQUOT (the owner's quota), EINVAL (size, or an empty payload), EACCES (no WRITE).
    """
    try:
        return KeySerial(syscalls.add_key(_text(type_), _text(description), payload, keyring))
    except OSError as exc:
        raise _error(exc, "add_key") from exc


def request_key(
    type_: str, description: str, callout: bytes | None, destination: KeySerial = DEFAULT_DESTINATION
) -> KeySerial:
    """Find a key in this thread's keyrings, or let the kernel have it made by an upcall.

    `callout` None only looks; b"" and anything longer starts the upcall. Keep the default destination: any
    other needs the LINK permission on a key that is found.
    """
    # The kernel reads a C string and would silently cut the token here.
    if callout is not None and b"\0" in callout:
        raise KeyringError(errno.EINVAL, "request_key")
    try:
        return KeySerial(syscalls.request_key(_text(type_), _text(description), callout, destination))
    except OSError as exc:
        raise _error(exc, "request_key") from exc


def search(
    keyring: KeySerial, type_: str, description: str, destination: KeySerial = DEFAULT_DESTINATION
) -> KeySerial:
    """Find a key in a keyring and the keyrings linked to it."""
    return KeySerial(
        _do("search", syscalls.KEYCTL_SEARCH, keyring, _text(type_), _text(description), destination)
    )


def read(serial: KeySerial) -> bytes:
    """Return the payload; of a keyring, the serials in it as native 32-bit integers."""
    # One call with room for the largest payload, instead of one for the length and one to read: the key may
    # change in between.
    buffer = bytearray(MAX_PAYLOAD_BYTES)
    try:
        return bytes(memoryview(buffer)[: read_into(serial, buffer)])
    finally:
        wipe(buffer)


def read_into(serial: KeySerial, buffer: bytearray) -> int:
    """Fill the caller's buffer with the payload and return its length; E2BIG if the buffer is too short."""
    if not buffer:
        raise KeyringError(errno.EINVAL, "read")
    window = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    length = _do("read", syscalls.KEYCTL_READ, serial, window, len(buffer))
    # KEYCTL_READ returns the payload's full length, also when it copied less or nothing (keyctl_read(3)).
    if length > len(buffer):
        raise KeyringError(errno.E2BIG, "read")
    return length


def wipe(buffer: bytearray) -> None:
    """Overwrite a buffer in place."""
    # memset on the buffer itself: assigning a slice would build a second object first.
    if buffer:
        ctypes.memset((ctypes.c_char * len(buffer)).from_buffer(buffer), 0, len(buffer))


def read_keyring(serial: KeySerial) -> list[KeySerial]:
    """Return the serials of the keys linked to a keyring."""
    length = _do("read", syscalls.KEYCTL_READ, serial, None, 0)
    # Keys may be linked between asking for the length and reading; repeat until the array was long enough.
    while True:
        array = ctypes.create_string_buffer(max(length, 4))
        length = _do("read", syscalls.KEYCTL_READ, serial, array, len(array))
        if length <= len(array):
            # key_serial_t is int32_t, in native byte order
            return [KeySerial(n) for n in memoryview(array.raw[:length]).cast("i")]


def describe(serial: KeySerial) -> KeyDescription:
    """Return type, owner, permissions and description."""
    array = ctypes.create_string_buffer(MAX_DESCRIPTION_BYTES + 128)
    length = _do("describe", syscalls.KEYCTL_DESCRIBE, serial, array, len(array))
    # "type;uid;gid;perm;description" and a NUL, perm in hex (keyctl_describe(3)). The description may hold
    # any character, so split four times only.
    type_, uid, gid, mask, description = (
        array.raw[: length - 1].decode("utf-8", "surrogateescape").split(";", 4)
    )
    return KeyDescription(
        type=type_, uid=int(uid), gid=int(gid), permissions=int(mask, 16), description=description
    )


def update(serial: KeySerial, payload: bytes) -> None:
    """Replace the payload; this also clears the timeout."""
    _do("update", syscalls.KEYCTL_UPDATE, serial, payload, len(payload))


def link(serial: KeySerial, keyring: KeySerial) -> None:
    """Link a key to a keyring."""
    _do("link", syscalls.KEYCTL_LINK, serial, keyring)


def unlink(serial: KeySerial, keyring: KeySerial) -> None:
    """Remove the link of a key from a keyring; a key without links is destroyed."""
    _do("unlink", syscalls.KEYCTL_UNLINK, serial, keyring)


def clear(keyring: KeySerial) -> None:
    """Remove all links of a keyring."""
    _do("clear", syscalls.KEYCTL_CLEAR, keyring)


def revoke(serial: KeySerial) -> None:
    """Revoke a key; every request for it fails with EKEYREVOKED until it is unlinked."""
    _do("revoke", syscalls.KEYCTL_REVOKE, serial)


def invalidate(serial: KeySerial) -> None:
    """Remove a key from all keyrings, so the next request makes a new one.

    A request in the first millisecond afterwards may still fail with EKEYREVOKED.
    """
    _do("invalidate", syscalls.KEYCTL_INVALIDATE, serial)


def set_timeout(serial: KeySerial, timeout_s: int) -> None:
    """Let the key expire after `timeout_s` seconds; 0 means never."""
    _do("set_timeout", syscalls.KEYCTL_SET_TIMEOUT, serial, timeout_s)


def setperm(serial: KeySerial, permissions: int) -> None:
    """Set the permission mask (`keyutils.permissions`)."""
    _do("setperm", syscalls.KEYCTL_SETPERM, serial, permissions)


def chown(serial: KeySerial, uid: int, gid: int) -> None:
    """Transfer a key, and the quota that it uses, to another user; before `setperm`, which may forbid it."""
    _do("chown", syscalls.KEYCTL_CHOWN, serial, uid, gid)


def instantiate(serial: KeySerial, payload: bytes, keyring: KeySerial = DEFAULT_DESTINATION) -> None:
    """Give a key under construction its payload; this ends the authority over it."""
    _do("instantiate", syscalls.KEYCTL_INSTANTIATE, serial, payload, len(payload), keyring)


def reject(serial: KeySerial, timeout_s: int, code: int, keyring: KeySerial = DEFAULT_DESTINATION) -> None:
    """Make a key under construction negative: requests fail with errno `code` for `timeout_s` seconds."""
    _do("reject", syscalls.KEYCTL_REJECT, serial, timeout_s, code, keyring)


def assume_authority(serial: KeySerial) -> None:
    """Assume the authority to instantiate a key."""
    _do("assume_authority", syscalls.KEYCTL_ASSUME_AUTHORITY, serial)


def serial_of(special: KeySerial, *, create: bool) -> KeySerial:
    """Return the real serial of a special keyring (SESSION_KEYRING); `create` makes a missing one."""
    return KeySerial(_do("get_keyring_id", syscalls.KEYCTL_GET_KEYRING_ID, special, int(create)))


def join_session(name: str | None = None) -> KeySerial:
    """Give this thread a new anonymous session keyring, or join or make a named one; return its serial."""
    given = None if name is None else _text(name)
    return KeySerial(_do("join_session_keyring", syscalls.KEYCTL_JOIN_SESSION_KEYRING, given))


def keep_requested_keys_in_session() -> None:
    """Make request_key(2) of this thread put new keys into its session keyring in every case.

    By default it prefers a thread or process keyring, if one exists, and children would not inherit the key.
    """
    _do("set_reqkey_keyring", syscalls.KEYCTL_SET_REQKEY_KEYRING, 3)  # KEY_REQKEY_DEFL_SESSION_KEYRING


def session_to_parent() -> None:
    """Give this thread's session keyring to the parent process (single-threaded, same user)."""
    _do("session_to_parent", syscalls.KEYCTL_SESSION_TO_PARENT)


def get_persistent(uid: int, keyring: KeySerial) -> KeySerial:
    """Link a user's persistent keyring (uid -1: one's own) to a keyring.

    It expires 3 days after its last use (persistent-keyring(7), kernel.keys.persistent_keyring_expiry).
    """
    return KeySerial(_do("get_persistent", syscalls.KEYCTL_GET_PERSISTENT, uid, keyring))


def _do(verb: str, operation: int, *arguments: syscalls.Argument) -> int:
    try:
        return syscalls.keyctl(operation, *arguments)
    except OSError as exc:
        raise _error(exc, verb) from exc


def _error(exc: OSError, verb: str) -> KeyringError:
    code = exc.errno or errno.EIO
    return _CLASSES.get(code, KeyringError)(code, verb)


def _text(text: str) -> bytes:
    if "\0" in text:
        raise KeyringError(errno.EINVAL, "description")
    return text.encode("utf-8", "surrogateescape")
