"""Making the key-encryption key: once, found again, never overwritten, restored from its copy."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.kek import load_kek
from ostiary.edge.kek_creation import RecoveryCopy, create_kek, is_volatile, restore_kek
from ostiary.edge.kek_spec import KEK_BYTES
from ostiary.errors import Conflict, Misconfigured
from tests.support.memory_keyring import MemoryKeyring, memory_keyring

APPLICATION, SERVICE = "shop.example", "ca"
PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MemoryKeyring]]:
    with memory_keyring(monkeypatch) as backend:
        yield backend


def ask() -> str:
    return PASSPHRASE


@pytest.mark.parametrize("spec", ["file:kek", "prompt", "keyring:memory.Keyring"])
def test_created_key_is_loaded_again_and_never_overwritten(tmp_path: Path, spec: str) -> None:
    made = create_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask)
    assert len(made) == KEK_BYTES
    assert load_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask) == made
    with pytest.raises(Conflict, match="there already"):
        create_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask)
    assert load_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask) == made


def test_file_is_private_and_of_its_directorys_owner(tmp_path: Path) -> None:
    directory = tmp_path / "keyholder"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, 12345, 12346)
    create_kek("file:kek", APPLICATION, SERVICE, directory=directory)
    status = (directory / "kek").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert (status.st_uid, status.st_gid) == (directory.stat().st_uid, directory.stat().st_gid)
    assert list(directory.iterdir()) == [directory / "kek"]


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    create_kek("file:real", APPLICATION, SERVICE, directory=tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Misconfigured, match="can't be read"):
        load_kek("file:link", APPLICATION, SERVICE, directory=tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Conflict):
        create_kek("file:dangling", APPLICATION, SERVICE, directory=tmp_path)


def test_volatile_store_wants_a_recovery_copy(tmp_path: Path, memory: type[MemoryKeyring]) -> None:
    memory.volatile = True
    spec = "keyring:memory.Keyring"
    try:
        assert is_volatile(spec, directory=tmp_path)
        with pytest.raises(Misconfigured, match="recovery copy"):
            create_kek(spec, APPLICATION, SERVICE, directory=tmp_path)
        assert memory.stored == {}
        copy = RecoveryCopy(path=tmp_path / "recovery", ask=ask)
        made = create_kek(spec, APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
        memory.stored.clear()  # the machine starts again
        with pytest.raises(Misconfigured, match="restore the recovery copy"):
            load_kek(spec, APPLICATION, SERVICE, directory=tmp_path)
        assert restore_kek(spec, APPLICATION, SERVICE, directory=tmp_path, recovery=copy) == made
        assert load_kek(spec, APPLICATION, SERVICE, directory=tmp_path) == made
    finally:
        memory.volatile = False


def test_our_kernel_backend_counts_as_volatile(tmp_path: Path) -> None:
    try:
        assert is_volatile("keyring:kernel", directory=tmp_path)
    except Misconfigured as exc:
        pytest.skip(str(exc))


def test_recovery_copy_is_private_and_holds_no_clear_key(tmp_path: Path) -> None:
    copy = RecoveryCopy(path=tmp_path / "recovery", ask=ask)
    made = create_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
    assert stat.S_IMODE(copy.path.stat().st_mode) == 0o600
    assert made.hex() not in copy.path.read_text()


def test_restoring_beside_another_key_is_a_conflict_and_beside_the_same_is_not(tmp_path: Path) -> None:
    copy = RecoveryCopy(path=tmp_path / "recovery", ask=ask)
    made = create_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
    assert restore_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path, recovery=copy) == made
    other = create_kek("file:other", APPLICATION, SERVICE, directory=tmp_path)
    with pytest.raises(Conflict, match="another key-encryption key"):
        restore_kek("file:other", APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
    assert load_kek("file:other", APPLICATION, SERVICE, directory=tmp_path) == other


@pytest.mark.parametrize(
    ("fault", "message"), [("refuses", "cannot store the key"), ("forgets", "does not return the key")]
)
def test_backend_that_fails_leaves_no_copy_behind(
    tmp_path: Path, memory: type[MemoryKeyring], monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setattr(memory, fault, True)
    copy = RecoveryCopy(path=tmp_path / "recovery", ask=ask)
    with pytest.raises(Misconfigured, match=message):
        create_kek("keyring:memory.Keyring", APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
    assert not copy.path.exists()


@pytest.mark.parametrize(
    "backend",
    [
        "keyring.backends.chainer.ChainerBackend",
        "keyring.backends.null.Keyring",
        "keyring.backends.fail.Keyring",
    ],
)
def test_backend_that_guesses_or_keeps_nothing_is_refused(tmp_path: Path, backend: str) -> None:
    with pytest.raises(Misconfigured, match="name that backend"):
        create_kek(f"keyring:{backend}", APPLICATION, SERVICE, directory=tmp_path)


def test_keys_of_two_services_and_applications_are_apart(tmp_path: Path) -> None:
    spec = "keyring:memory.Keyring"
    names = [("shop.example", "ca"), ("shop.example", "credsvc"), ("other.example", "ca")]
    made = {create_kek(spec, application, service, directory=tmp_path) for application, service in names}
    assert len(made) == 3
