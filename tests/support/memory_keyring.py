"""A backend of the `keyring` library in memory, and what may go wrong with one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

import keyring.core
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import PasswordSetError

from ostiary.edge import kek_keyring

SPEC = "keyring:memory.Keyring"


class MemoryKeyring(KeyringBackend):
    """A backend of the `keyring` library for tests: a dictionary, and switches for what goes wrong."""

    priority = -9
    stored: ClassVar[dict[tuple[str, str], str]] = {}
    volatile = False
    refuses = False
    forgets = False

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def get_password(self, service: str, username: str) -> str | None:
        return self.stored.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        if self.refuses:
            raise PasswordSetError("locked")
        if not self.forgets:
            self.stored[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.stored[service, username]


@contextmanager
def memory_keyring(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MemoryKeyring]]:
    """Name the backend `keyring:memory.Keyring`."""
    real = keyring.core.load_keyring
    monkeypatch.setattr(
        kek_keyring,
        "load_keyring",
        lambda name: MemoryKeyring() if name == "memory.Keyring" else real(name),
    )
    MemoryKeyring.stored.clear()
    yield MemoryKeyring
    MemoryKeyring.stored.clear()
