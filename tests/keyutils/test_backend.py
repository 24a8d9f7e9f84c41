"""The `keyring` library storing in the running kernel."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import keyring as library
import pytest
from keyring.backends import fail
from keyring.errors import KeyringError, PasswordDeleteError, PasswordSetError

from keyutils import keyring
from keyutils.backend import KernelKeyring

if TYPE_CHECKING:
    from collections.abc import Iterator

    from keyutils.keyring import KeySerial


@pytest.fixture
def service(session: KeySerial) -> Iterator[str]:
    """A service name of this test's own; its keys are taken away afterwards."""
    name = f"ostiary-test-{uuid.uuid4()}"
    yield name
    for serial in keyring.read_keyring(keyring.USER_KEYRING):
        try:
            if name in keyring.describe(serial).description:
                keyring.unlink(serial, keyring.USER_KEYRING)
        except keyring.KeyringError:
            continue


@pytest.mark.parametrize("password", ["secret", "", "p\0ä\n", "x" * 32_766])
def test_stored_password_is_read_back_and_deleted(service: str, password: str) -> None:
    backend = KernelKeyring()
    assert backend.get_password(service, "user") is None
    backend.set_password(service, "user", "earlier")
    backend.set_password(service, "user", password)
    assert backend.get_password(service, "user") == password
    backend.delete_password(service, "user")
    assert backend.get_password(service, "user") is None
    with pytest.raises(PasswordDeleteError, match="not found"):
        backend.delete_password(service, "user")


def test_names_can_not_be_confused(service: str) -> None:
    backend = KernelKeyring()
    backend.set_password(service, "a:b", "one")
    backend.set_password(service + ":a", "b", "two")
    assert backend.get_password(service, "a:b") == "one"
    assert backend.get_password(service + ":a", "b") == "two"


def test_too_long_is_a_set_error_without_the_password(service: str) -> None:
    with pytest.raises(PasswordSetError) as caught:
        KernelKeyring().set_password(service, "user", "x" * 32_767)
    assert "xxx" not in str(caught.value)
    with pytest.raises(PasswordSetError):
        KernelKeyring().set_password(service, "a\0b", "x")
    with pytest.raises(KeyringError):
        KernelKeyring().get_password(service, "a\0b")
    with pytest.raises(PasswordDeleteError):
        KernelKeyring().delete_password(service, "a\0b")


def test_readable_from_a_private_session_of_the_same_user(service: str) -> None:
    """A session that doesn't link to the user keyring finds the key, and needs READ as owner to read it."""
    KernelKeyring().set_password(service, "user", "found")
    script = "import sys; from keyutils import keyring; from keyutils.backend import KernelKeyring as K; "
    script += "keyring.join_session(); print(K().get_password(sys.argv[1], 'user'))"
    done = subprocess.run(
        [sys.executable, "-c", script, service],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": "."},
    )
    assert done.stdout == "found\n"


def test_unlinked_from_the_session_still_readable(service: str) -> None:
    """The same inside this process, whose fixture joined an anonymous session."""
    KernelKeyring().set_password(service, "user", "found")
    serial = keyring.search(keyring.USER_KEYRING, "user", f"keyring:{len(service)}:{service}:user")
    assert keyring.describe(serial).uid == os.geteuid()
    assert keyring.read(serial) == b"=found"


def test_never_chosen_by_priority() -> None:
    assert KernelKeyring.volatile
    assert KernelKeyring.priority < fail.Keyring.priority
    assert isinstance(library.core.load_keyring("keyutils.backend.KernelKeyring"), KernelKeyring)


def test_not_viable_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> KeySerial:
        raise keyring.KeyringError(errno.ENOSYS, "get_keyring_id")

    monkeypatch.setattr(keyring, "serial_of", refuse)
    with pytest.raises(RuntimeError, match="ENOSYS"):
        _ = KernelKeyring.priority
    assert not KernelKeyring.viable
