"""A key in a backend of the keyring library: what it answers, and what it may not be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.kek import load_kek
from ostiary.edge.kek_keyring import load_from_keyring, store_in_keyring
from ostiary.edge.kek_spec import KeyringStore
from ostiary.errors import Misconfigured
from tests.support.memory_keyring import MemoryKeyring, memory_keyring

APPLICATION, SERVICE = "shop.example", "ca"
PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MemoryKeyring]]:
    with memory_keyring(monkeypatch) as backend:
        yield backend


def ask() -> str:
    return PASSPHRASE


@pytest.mark.parametrize("backend", ["no_such_module.Keyring", "keyutils.backend.NoSuchClass"])
def test_backend_that_does_not_exist_is_misconfigured(tmp_path: Path, backend: str) -> None:
    with pytest.raises(Misconfigured, match="can't be used"):
        load_kek(f"keyring:{backend}", APPLICATION, SERVICE, directory=tmp_path)


def test_the_backend_is_asked_under_the_applications_and_the_services_names(
    memory: type[MemoryKeyring],
) -> None:
    store = KeyringStore(backend="memory.Keyring")
    store_in_keyring(store, bytes(range(32)), APPLICATION, SERVICE)
    assert memory.stored == {("ostiary/shop.example", "ca"): bytes(range(32)).hex()}
    assert load_from_keyring(store, APPLICATION, SERVICE) == bytes(range(32))
    with pytest.raises(Misconfigured, match="restore the recovery copy"):
        load_from_keyring(store, APPLICATION, "credentials")


def test_what_the_backend_holds_must_be_a_key(memory: type[MemoryKeyring]) -> None:
    memory.stored["ostiary/shop.example", "ca"] = "not hex"
    with pytest.raises(Misconfigured, match="holds no key-encryption key") as caught:
        load_from_keyring(KeyringStore(backend="memory.Keyring"), APPLICATION, SERVICE)
    assert "not hex" not in str(caught.value)
