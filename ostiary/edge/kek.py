"""The key-encryption key of a service: 32 random bytes in the store that the configuration names, never a
guessed one.

    file:PATH               hex in a 0600 file (relative: in the keyholder's directory)
    prompt                  wrapped under a passphrase, beside the sealed keys; asked for at each start
    keyring:kernel          our backend of the `keyring` library; gone at the next start of the machine
    keyring:MODULE.CLASS    that backend of the `keyring` library

Rules:
- Nothing is overwritten: creating a key where one is refuses, for what it sealed would be lost.
- A backend that forgets (`volatile`) is taken only with a recovery copy, which is on disk before the key is
  used.
- Backends that choose among others by priority (chainer), or keep nothing (null, fail), are refused.
- A keyring belongs to a user: create, load and restore as the same one. Files get their directory's owner.
- The value is in no message. A `str` of it exists while a keyring backend is asked: CPython can't wipe that.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, assert_never

from keyring.core import load_keyring
from keyring.errors import KeyringError

from ostiary.edge.passphrase import RANDOM_BYTES, unwrap, wrap
from ostiary.errors import BadInput, Conflict, Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyring.backend import KeyringBackend

    Ask = Callable[[], str]  # returns a passphrase, from a terminal or an inherited descriptor

KEK_BYTES: Final = 32
WRAPPED_NAME: Final = "kek.wrapped"
_MAX_FILE_BYTES: Final = 4096
_KERNEL: Final = "keyutils.backend.KernelKeyring"
_REFUSED: Final = ("keyring.backends.chainer.", "keyring.backends.null.", "keyring.backends.fail.")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCopy:
    """Where the copy wrapped under a passphrase lies, and who is asked for that passphrase."""

    path: Path
    ask: Ask


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


def is_volatile(spec: str, *, directory: Path) -> bool:
    """Tell whether a start of the machine loses what this store keeps, so that `create_kek` wants a recovery
    copy.
    """
    store = parse_kek_spec(spec, directory=directory)
    return isinstance(store, KeyringStore) and bool(getattr(_backend(store), "volatile", False))


def create_kek(
    spec: str,
    application: str,
    service: str,
    *,
    directory: Path,
    ask: Ask | None = None,
    recovery: RecoveryCopy | None = None,
) -> bytes:
    """Make a key, store it, and return it.

    Raises Conflict where one is there, Misconfigured where the store forgets and no recovery copy was asked
    for, BadInput for a spec or passphrase.
    """
    store = parse_kek_spec(spec, directory=directory)
    if recovery is None and is_volatile(spec, directory=directory):
        raise Misconfigured(
            f"{spec!r} forgets at the next start of the machine: name a file for a recovery copy, or another store",
            field="kek",
        )
    _check_vacant(store, application, service)
    kek = secrets.token_bytes(KEK_BYTES)
    if recovery is not None:
        _write_wrapped(recovery.path, recovery.ask, kek, application, service)
    try:
        _put(store, kek, application, service, ask)
    except BaseException:
        if (
            recovery is not None
        ):  # the copy of a key that nobody used would stand in the way of the next attempt
            recovery.path.unlink(missing_ok=True)
        raise
    return kek


def load_kek(spec: str, application: str, service: str, *, directory: Path, ask: Ask | None = None) -> bytes:
    """Return the key's 32 bytes; Misconfigured says what to do where it is missing, damaged or badly kept."""
    match parse_kek_spec(spec, directory=directory):
        case FileStore(path=path):
            return _from_hex(_read_private(path).strip(), str(path))
        case PromptStore(path=path):
            return unwrap(_read_private(path), _asked(ask), application=application, service=service)
        case KeyringStore() as store:
            text = _from_keyring(store, application, service)
            if text is None:
                raise Misconfigured(
                    f"{store.backend} holds no key-encryption key of {application} {service}: restore the recovery copy",
                    field="kek",
                )
            return _from_hex(text.encode(), store.backend)
        case unexpected:
            assert_never(unexpected)


def restore_kek(
    spec: str,
    application: str,
    service: str,
    *,
    directory: Path,
    recovery: RecoveryCopy,
    ask: Ask | None = None,
) -> bytes:
    """Put the recovery copy's key into the store and return it; a store that holds the same key is left
    alone.

    Raises Conflict where it holds another one, Unauthenticated for a wrong passphrase.
    """
    store = parse_kek_spec(spec, directory=directory)
    kek = unwrap(_read_private(recovery.path), recovery.ask(), application=application, service=service)
    if _is_vacant(store, application, service):
        _put(store, kek, application, service, ask)
    elif not secrets.compare_digest(load_kek(spec, application, service, directory=directory, ask=ask), kek):
        raise Conflict(f"{spec!r} holds another key-encryption key than the recovery copy", field="kek")
    return kek


def _put(store: KEKStore, kek: bytes, application: str, service: str, ask: Ask | None) -> None:
    match store:
        case FileStore(path=path):
            _write_new(path, kek.hex().encode() + b"\n")
        case PromptStore(path=path):
            _write_wrapped(path, ask, kek, application, service)
        case KeyringStore():
            try:
                _backend(store).set_password(_service_name(application), service, kek.hex())
            except KeyringError as exc:
                raise Misconfigured(f"{store.backend} does not store: {exc}", field="kek") from exc
            if _from_keyring(store, application, service) != kek.hex():
                raise Misconfigured(f"{store.backend} does not give back what it was given", field="kek")
        case unexpected:
            assert_never(unexpected)


def _is_vacant(store: KEKStore, application: str, service: str) -> bool:
    if isinstance(store, KeyringStore):
        return _from_keyring(store, application, service) is None
    return not os.path.lexists(store.path)


def _check_vacant(store: KEKStore, application: str, service: str) -> None:
    if not _is_vacant(store, application, service):
        raise Conflict(f"a key-encryption key of {application} {service} is there already", field="kek")


def _backend(store: KeyringStore) -> KeyringBackend:
    if store.backend.startswith(_REFUSED):
        raise Misconfigured(
            f"{store.backend} keeps nothing or guesses where; name the backend itself", field="kek"
        )
    try:
        return load_keyring(store.backend)
    except (ImportError, AttributeError, RuntimeError, TypeError) as exc:
        raise Misconfigured(
            f"{store.backend} can't be used as a keyring backend: {exc}", field="kek"
        ) from exc


def _from_keyring(store: KeyringStore, application: str, service: str) -> str | None:
    try:
        return _backend(store).get_password(_service_name(application), service)
    except KeyringError as exc:
        raise Misconfigured(f"{store.backend} does not answer: {exc}", field="kek") from exc


def _service_name(application: str) -> str:
    return f"ostiary/{application}"


def _from_hex(text: bytes, place: str) -> bytes:
    try:
        kek = bytes.fromhex(text.decode())
    except ValueError:
        kek = b""
    if len(kek) != KEK_BYTES:
        raise Misconfigured(f"{place} holds no key-encryption key (64 hex digits)", field="kek")
    return kek


def _asked(ask: Ask | None) -> str:
    if ask is None:
        raise Misconfigured(
            "the key-encryption key is under a passphrase and there is nobody to ask", field="kek"
        )
    return ask()


def _write_wrapped(path: Path, ask: Ask | None, kek: bytes, application: str, service: str) -> None:
    random = secrets.token_bytes(RANDOM_BYTES)
    _write_new(path, wrap(kek, _asked(ask), application=application, service=service, random=random))


def _read_private(path: Path) -> bytes:
    """Read a regular file that only its owner may read: root, this user, or the directory's owner."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise Misconfigured(f"{path} can't be read: {exc.strerror}", field="kek") from exc
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        owners = {0, os.geteuid(), path.parent.stat().st_uid}
        if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o077 or status.st_uid not in owners:
            raise Misconfigured(
                f"{path} must be a file that only its owner may read (mode 0600)", field="kek"
            )
        return file.read(_MAX_FILE_BYTES)


def _write_new(path: Path, content: bytes) -> None:
    """Make a 0600 file, whole and on disk, or raise: Conflict where one is there."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                if os.geteuid() == 0:
                    owner = path.parent.stat()
                    os.fchown(descriptor, owner.st_uid, owner.st_gid)
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            os.link(temporary, path)  # unlike rename, never replaces
        finally:
            temporary.unlink()
        _sync_directory(path.parent)
    except FileExistsError as exc:
        raise Conflict(f"{path} is there already", field="kek") from exc
    except OSError as exc:
        raise Misconfigured(f"{path} can't be written: {exc.strerror}", field="kek") from exc


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
