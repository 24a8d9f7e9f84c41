"""The `keyring:` store of a key-encryption key. The `keyring` library is known to this file only: it brings
an HTTP client (jaraco.context imports urllib.request) and more into a keyholder that chose it.

Rules:
- Backends that choose among others by priority (chainer), or keep nothing (null, fail), are refused.
- A `str` of the key exists while a backend is asked for it: CPython can't wipe that.
"""

from __future__ import annotations

from typing import Final

from keyring.backend import KeyringBackend
from keyring.core import load_keyring
from keyring.errors import KeyringError

from ostiary.edge.kek_spec import KeyringStore, parse_kek_hex
from ostiary.errors import Misconfigured

# A chainer asks whichever backend has the highest priority today: a key that is found depends on what else is
# installed. `null` and `fail` keep nothing.
_REFUSED: Final = ("keyring.backends.chainer.", "keyring.backends.null.", "keyring.backends.fail.")


def load_from_keyring(store: KeyringStore, application: str, service: str) -> bytes:
    """The key; Misconfigured where the backend holds none, or something else."""
    text = read_from_keyring(store, application, service)
    if text is None:
        raise Misconfigured(
            f"{store.backend} holds no key-encryption key of {application} {service}: "
            "restore the recovery copy",
            field="kek",
        )
    return parse_kek_hex(text.encode(), store.backend)


def store_in_keyring(store: KeyringStore, kek: bytes, application: str, service: str) -> None:
    """Put the key into the backend; Misconfigured where it does not give back what it was given."""
    try:
        keyring_backend(store).set_password(keyring_service(application), service, kek.hex())
    except KeyringError as exc:
        raise Misconfigured(f"{store.backend} cannot store the key: {exc}", field="kek") from exc
    if read_from_keyring(store, application, service) != kek.hex():
        raise Misconfigured(f"{store.backend} does not return the key that it was given", field="kek")


def keyring_backend(store: KeyringStore) -> KeyringBackend:
    """The backend that a store names; Misconfigured where there is none such, or it keeps nothing."""
    if store.backend.startswith(_REFUSED):
        raise Misconfigured(
            f"{store.backend} stores nothing, or chooses a backend by itself; name that backend", field="kek"
        )
    try:
        return load_keyring(store.backend)
    except (ImportError, AttributeError, RuntimeError, TypeError) as exc:
        raise Misconfigured(
            f"{store.backend} can't be used as a keyring backend: {exc}", field="kek"
        ) from exc


def read_from_keyring(store: KeyringStore, application: str, service: str) -> str | None:
    """The key as hex, None where the backend holds none; Misconfigured where it does not answer."""
    try:
        return keyring_backend(store).get_password(keyring_service(application), service)
    except KeyringError as exc:
        raise Misconfigured(f"{store.backend} does not answer: {exc}", field="kek") from exc


def keyring_service(application: str) -> str:
    """The name of an application's keys in a keyring."""
    return f"ostiary/{application}"
