"""Making a service's key-encryption key, and bringing it back from its recovery copy.

Rules:
- Nothing is overwritten: creating a key where one is refuses, for what it sealed would be lost.
- A backend that forgets (`volatile`) is taken only with a recovery copy, which is on disk before the key is
  used.
- A keyring belongs to a user: create, load and restore as the same one. Files get their directory's owner.

The stores, and opening the key at each start: `ostiary.edge.kek`.
"""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from ostiary.edge.durable_files import sync_directory
from ostiary.edge.kek import Ask, load_kek
from ostiary.edge.kek_keyring import keyring_backend, read_from_keyring, store_in_keyring
from ostiary.edge.kek_prompt import asked
from ostiary.edge.kek_spec import (
    KEK_BYTES,
    FileStore,
    KEKStore,
    KeyringStore,
    PromptStore,
    parse_kek_spec,
    read_key_file,
)
from ostiary.edge.passphrase import unwrap
from ostiary.edge.passphrase_wrapping import RANDOM_BYTES, wrap
from ostiary.errors import Conflict, Misconfigured


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryCopy:
    """Where the copy that is wrapped under a passphrase lies, and what asks for that passphrase."""

    path: Path
    ask: Ask


def is_volatile(spec: str, *, directory: Path) -> bool:
    """Tell whether this store forgets at the next start of the machine; `create_kek` then wants a recovery
    copy.
    """
    store = parse_kek_spec(spec, directory=directory)
    return isinstance(store, KeyringStore) and bool(getattr(keyring_backend(store), "volatile", False))


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

    1. Refuse a store that forgets, unless a recovery copy was asked for (Misconfigured).
    2. Refuse a store that holds a key (Conflict).
    3. Draw the key.
    4. Put the recovery copy on the disk, before anything can be sealed with the key.
    5. Store the key; a backend must give back what it was given.
    BadInput for a bad spec or passphrase.
    """
    store = parse_kek_spec(spec, directory=directory)
    # 1.
    if recovery is None and is_volatile(spec, directory=directory):
        raise Misconfigured(
            f"{spec!r} does not outlast a restart of the machine: "
            "name a file for a recovery copy, or another store",
            field="kek",
        )
    # 2.
    _check_vacant(store, application, service)
    # 3.
    kek = secrets.token_bytes(KEK_BYTES)
    # 4.
    if recovery is not None:
        _write_wrapped(recovery.path, recovery.ask, kek, application, service)
    # 5.
    try:
        _put(store, kek, application, service, ask)
    except BaseException:
        # The copy of a key that nobody used would stand in the way of the next attempt.
        if recovery is not None:
            recovery.path.unlink(missing_ok=True)
        raise
    return kek


def restore_kek(
    spec: str,
    application: str,
    service: str,
    *,
    directory: Path,
    recovery: RecoveryCopy,
    ask: Ask | None = None,
) -> bytes:
    """Put the key of the recovery copy into the store, and return it; a store that holds the same key is left
    alone.

    Raises Conflict where it holds another one, Unauthenticated for a wrong passphrase.
    """
    store = parse_kek_spec(spec, directory=directory)
    kek = unwrap(read_key_file(recovery.path), recovery.ask(), application=application, service=service)
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
            store_in_keyring(store, kek, application, service)
        case unexpected:
            assert_never(unexpected)


def _is_vacant(store: KEKStore, application: str, service: str) -> bool:
    if isinstance(store, KeyringStore):
        return read_from_keyring(store, application, service) is None
    # lexists: a dangling link is in the way as well.
    return not os.path.lexists(store.path)


def _check_vacant(store: KEKStore, application: str, service: str) -> None:
    if not _is_vacant(store, application, service):
        raise Conflict(f"a key-encryption key of {application} {service} is there already", field="kek")


def _write_wrapped(path: Path, ask: Ask | None, kek: bytes, application: str, service: str) -> None:
    random = secrets.token_bytes(RANDOM_BYTES)
    _write_new(path, wrap(kek, asked(ask), application=application, service=service, random=random))


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
        sync_directory(path.parent)
    except FileExistsError as exc:
        raise Conflict(f"{path} is there already", field="kek") from exc
    except OSError as exc:
        raise Misconfigured(f"{path} can't be written: {exc.strerror}", field="kek") from exc
