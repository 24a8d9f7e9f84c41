"""Opening a service's key-encryption key: 32 random bytes in the store that the configuration names.

    file:PATH               hex in a 0600 file (relative: in the keyholder's directory)
    prompt                  wrapped under a passphrase, beside the sealed keys; asked for at each start
    keyring:kernel          our backend of the `keyring` library; gone at the next start of the machine
    keyring:MODULE.CLASS    that backend of the `keyring` library

Rules:
- The key is never guessed: where it is missing, damaged or readable by others, the message says what to do.
- Backends that choose among others by priority (chainer), or keep nothing (null, fail), are refused.
- The value is in no message. A `str` of it exists while a keyring backend is asked: CPython can't wipe that.

Making, restoring and copying it is left to `ostiary.edge.kek_creation`, which no keyholder loads.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from ostiary.edge.passphrase import unwrap
from ostiary.errors import BadInput, Misconfigured

if TYPE_CHECKING:
    from keyring.backend import KeyringBackend

KEK_BYTES: Final = 32  # AES-256
WRAPPED_NAME: Final = "kek.wrapped"
_MAX_FILE_BYTES: Final = 4096
_KERNEL: Final = "keyutils.backend.KernelKeyring"
# A chainer asks whichever backend has the highest priority today: a key that is found depends on what else is
# installed. `null` and `fail` keep nothing.
_REFUSED: Final = ("keyring.backends.chainer.", "keyring.backends.null.", "keyring.backends.fail.")

Ask = Callable[[], str]
"""Returns a passphrase, from a terminal or an inherited descriptor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileStore:
    """The key as hex in a 0600 file."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptStore:
    """The key wrapped under a passphrase in a 0600 file."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyringStore:
    """The key as hex in a backend of the `keyring` library, named MODULE.CLASS."""

    backend: str


KEKStore = FileStore | PromptStore | KeyringStore


def parse_kek_spec(spec: str, *, directory: Path) -> KEKStore:
    """Read the configuration's word for the store; BadInput says what it may be."""
    kind, _, rest = spec.partition(":")
    if kind == "file" and rest:
        return FileStore(path=directory / rest)
    if spec == "prompt":
        return PromptStore(path=directory / WRAPPED_NAME)
    if spec == "keyring:kernel":
        return KeyringStore(backend=_KERNEL)
    if kind == "keyring" and "." in rest and all(part.isidentifier() for part in rest.split(".")):
        return KeyringStore(backend=rest)
    raise BadInput(
        f"key-encryption key {spec!r}: wanted file:PATH, prompt, keyring:kernel or keyring:MODULE.CLASS",
        field="kek",
    )


def load_kek(spec: str, application: str, service: str, *, directory: Path, ask: Ask | None = None) -> bytes:
    """Return the key's 32 bytes; Misconfigured says what to do where it is missing, damaged or badly kept."""
    match parse_kek_spec(spec, directory=directory):
        case FileStore(path=path):
            return _from_hex(read_private(path).strip(), str(path))
        case PromptStore(path=path):
            return unwrap(read_private(path), asked(ask), application=application, service=service)
        case KeyringStore() as store:
            text = read_from_keyring(store, application, service)
            if text is None:
                raise Misconfigured(
                    f"{store.backend} holds no key-encryption key of {application} {service}: "
                    "restore the recovery copy",
                    field="kek",
                )
            return _from_hex(text.encode(), store.backend)
        case unexpected:
            assert_never(unexpected)


def keyring_backend(store: KeyringStore) -> KeyringBackend:
    """The backend that a store names; Misconfigured where there is none such, or it keeps nothing."""
    if store.backend.startswith(_REFUSED):
        raise Misconfigured(
            f"{store.backend} keeps nothing or guesses where; name the backend itself", field="kek"
        )
    # Imported here, because only a `keyring:` key needs the library, and the library brings an HTTP client
    # (jaraco.context imports urllib.request): a keyholder whose key lies in a file runs without it.
    from keyring.core import load_keyring  # noqa: PLC0415 - see above

    try:
        return load_keyring(store.backend)
    except (ImportError, AttributeError, RuntimeError, TypeError) as exc:
        raise Misconfigured(
            f"{store.backend} can't be used as a keyring backend: {exc}", field="kek"
        ) from exc


def read_from_keyring(store: KeyringStore, application: str, service: str) -> str | None:
    """The key as hex, None where the backend holds none; Misconfigured where it does not answer."""
    from keyring.errors import KeyringError  # noqa: PLC0415 - see keyring_backend

    try:
        return keyring_backend(store).get_password(keyring_service(application), service)
    except KeyringError as exc:
        raise Misconfigured(f"{store.backend} does not answer: {exc}", field="kek") from exc


def keyring_service(application: str) -> str:
    """The name of an application's keys in a keyring."""
    return f"ostiary/{application}"


def _from_hex(text: bytes, place: str) -> bytes:
    try:
        kek = bytes.fromhex(text.decode())
    except ValueError:
        kek = b""
    if len(kek) != KEK_BYTES:
        raise Misconfigured(f"{place} holds no key-encryption key (64 hex digits)", field="kek")
    return kek


def asked(ask: Ask | None) -> str:
    """The passphrase; Misconfigured where there is nobody to ask."""
    if ask is None:
        raise Misconfigured(
            "the key-encryption key is under a passphrase and there is nobody to ask", field="kek"
        )
    return ask()


def read_private(path: Path) -> bytes:
    """Read a regular file that only its owner may read: root, this user, or the directory's owner."""
    # O_NONBLOCK: opening a FIFO that somebody put there must not wait for a writer; it is refused below. All
    # checks are made on the descriptor that is read, so nobody can exchange the file between them.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise Misconfigured(f"{path} can't be read: {exc.strerror}", field="kek") from exc
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        # The directory's owner: a keyholder reads as root what belongs to its own user.
        owners = {0, os.geteuid(), path.parent.stat().st_uid}
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid not in owners:
            raise Misconfigured(
                f"{path} must be a file that only its owner may read (mode 0600)", field="kek"
            )
        return file.read(_MAX_FILE_BYTES)
