"""Where a service's key-encryption key is kept: the configuration's word for it, and what every store shares.

    file:PATH               hex in a 0600 file (relative: in the keyholder's directory)
    prompt                  wrapped under a passphrase, beside the sealed keys; asked for at each start
    keyring:kernel          our backend of the `keyring` library; gone at the next start of the machine
    keyring:MODULE.CLASS    that backend of the `keyring` library

A word that is none of these is refused: the key is never looked for in another place.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostiary.errors import BadInput, Misconfigured

KEK_BYTES: Final = 32  # AES-256
WRAPPED_NAME: Final = "kek.wrapped"
_MAX_FILE_BYTES: Final = 4096
_KERNEL: Final = "keyutils.backend.KernelKeyring"


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


def parse_kek_hex(text: bytes, place: str) -> bytes:
    """The key from its 64 hex digits; Misconfigured names the place, never what stood there."""
    try:
        kek = bytes.fromhex(text.decode())
    except ValueError:
        kek = b""
    if len(kek) != KEK_BYTES:
        raise Misconfigured(f"{place} holds no key-encryption key (64 hex digits)", field="kek")
    return kek


def read_key_file(path: Path) -> bytes:
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
