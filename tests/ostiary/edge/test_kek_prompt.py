"""A key under a passphrase: who is asked, and for what."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.kek import load_kek
from ostiary.edge.kek_creation import create_kek
from ostiary.errors import BadInput, Misconfigured, Unauthenticated
from tests.support.memory_keyring import MemoryKeyring, memory_keyring

APPLICATION, SERVICE = "shop.example", "ca"
PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MemoryKeyring]]:
    with memory_keyring(monkeypatch) as backend:
        yield backend


def ask() -> str:
    return PASSPHRASE


def test_wrong_passphrase_is_unauthenticated(tmp_path: Path) -> None:
    create_kek("prompt", APPLICATION, SERVICE, directory=tmp_path, ask=ask)
    with pytest.raises(Unauthenticated, match="wrong passphrase"):
        load_kek("prompt", APPLICATION, SERVICE, directory=tmp_path, ask=lambda: "correct horse bat")
    with pytest.raises(Misconfigured, match="nobody to ask"):
        load_kek("prompt", APPLICATION, SERVICE, directory=tmp_path)


def test_wrapped_key_of_another_service_does_not_open(tmp_path: Path) -> None:
    create_kek("prompt", APPLICATION, SERVICE, directory=tmp_path, ask=ask)
    with pytest.raises(BadInput, match="belongs to service 'ca'"):
        load_kek("prompt", APPLICATION, "credsvc", directory=tmp_path, ask=ask)
