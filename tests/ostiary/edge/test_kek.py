"""The key-encryption key: made once, found again, never guessed, never overwritten."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, ClassVar

import keyring.core
import pytest
from keyring.backend import KeyringBackend
from keyring.errors import PasswordSetError

from ostiary.edge import kek
from ostiary.edge.kek import FileStore, KeyringStore, PromptStore, RecoveryCopy
from ostiary.errors import BadInput, Conflict, Misconfigured, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

APPLICATION, SERVICE = "shop.example", "ca"
PASSPHRASE = "correct horse battery"


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


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MemoryKeyring]]:
    """Name the backend above `keyring:memory.Keyring`."""
    real = keyring.core.load_keyring
    monkeypatch.setattr(
        kek, "load_keyring", lambda name: MemoryKeyring() if name == "memory.Keyring" else real(name)
    )
    MemoryKeyring.stored.clear()
    yield MemoryKeyring
    MemoryKeyring.stored.clear()


def ask() -> str:
    return PASSPHRASE


@pytest.mark.parametrize("spec", ["file:kek", "prompt", "keyring:memory.Keyring"])
def test_created_key_is_loaded_again_and_never_overwritten(tmp_path: Path, spec: str) -> None:
    made = kek.create_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask)
    assert len(made) == kek.KEK_BYTES
    assert kek.load_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask) == made
    with pytest.raises(Conflict, match="there already"):
        kek.create_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask)
    assert kek.load_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask) == made


@pytest.mark.parametrize("spec", ["file:kek", "prompt", "keyring:memory.Keyring"])
def test_missing_key_says_what_to_do(tmp_path: Path, spec: str) -> None:
    with pytest.raises(Misconfigured, match=r"No such file|restore the recovery copy"):
        kek.load_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask)


def test_spec_names_the_store(tmp_path: Path) -> None:
    found = [kek.parse_kek_spec(spec, directory=tmp_path) for spec in ("file:/a/b", "file:b", "prompt")]
    assert found == [
        FileStore(path=tmp_path / "/a/b"),
        FileStore(path=tmp_path / "b"),
        PromptStore(path=tmp_path / "kek.wrapped"),
    ]
    assert kek.parse_kek_spec("keyring:kernel", directory=tmp_path) == KeyringStore(
        backend="keyutils.backend.KernelKeyring"
    )


@pytest.mark.parametrize(
    "spec", ["", "file:", "file", "prompt:x", "keyring:", "keyring:x", "keyring:a..b", "vault:x"]
)
def test_unknown_spec_is_refused(tmp_path: Path, spec: str) -> None:
    with pytest.raises(BadInput, match="wanted file:PATH") as caught:
        kek.load_kek(spec, APPLICATION, SERVICE, directory=tmp_path)
    assert caught.value.field == "kek"


def test_file_is_private_and_of_its_directorys_owner(tmp_path: Path) -> None:
    directory = tmp_path / "keyholder"
    directory.mkdir()
    if os.geteuid() == 0:
        os.chown(directory, 12345, 12346)
    kek.create_kek("file:kek", APPLICATION, SERVICE, directory=directory)
    status = (directory / "kek").stat()
    assert stat.S_IMODE(status.st_mode) == 0o600
    assert (status.st_uid, status.st_gid) == (directory.stat().st_uid, directory.stat().st_gid)
    assert list(directory.iterdir()) == [directory / "kek"]


def test_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    kek.create_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path)
    (tmp_path / "kek").chmod(0o640)
    with pytest.raises(Misconfigured, match="mode 0600"):
        kek.load_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path)


def test_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    kek.create_kek("file:real", APPLICATION, SERVICE, directory=tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(Misconfigured, match="can't be read"):
        kek.load_kek("file:link", APPLICATION, SERVICE, directory=tmp_path)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(Conflict):
        kek.create_kek("file:dangling", APPLICATION, SERVICE, directory=tmp_path)


@pytest.mark.parametrize("content", [b"", b"zz", b"00" * 31, b"00" * 33, b"\xff" * 64])
def test_damaged_file_is_told_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kek").touch(mode=0o600)
    (tmp_path / "kek").write_bytes(content)
    with pytest.raises(Misconfigured, match="holds no key-encryption key") as caught:
        kek.load_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path)
    assert "00000000" not in str(caught.value)


def test_wrong_passphrase_is_unauthenticated(tmp_path: Path) -> None:
    kek.create_kek("prompt", APPLICATION, SERVICE, directory=tmp_path, ask=ask)
    with pytest.raises(Unauthenticated, match="wrong passphrase"):
        kek.load_kek("prompt", APPLICATION, SERVICE, directory=tmp_path, ask=lambda: "correct horse bat")
    with pytest.raises(Misconfigured, match="nobody to ask"):
        kek.load_kek("prompt", APPLICATION, SERVICE, directory=tmp_path)


def test_wrapped_key_of_another_service_does_not_open(tmp_path: Path) -> None:
    kek.create_kek("prompt", APPLICATION, SERVICE, directory=tmp_path, ask=ask)
    with pytest.raises(BadInput, match="belongs to service 'ca'"):
        kek.load_kek("prompt", APPLICATION, "credsvc", directory=tmp_path, ask=ask)


def test_volatile_store_wants_a_recovery_copy(tmp_path: Path, memory: type[MemoryKeyring]) -> None:
    memory.volatile = True
    spec = "keyring:memory.Keyring"
    try:
        assert kek.is_volatile(spec, directory=tmp_path)
        with pytest.raises(Misconfigured, match="recovery copy"):
            kek.create_kek(spec, APPLICATION, SERVICE, directory=tmp_path)
        assert memory.stored == {}
        copy = RecoveryCopy(path=tmp_path / "recovery", ask=ask)
        made = kek.create_kek(spec, APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
        memory.stored.clear()  # the machine starts again
        with pytest.raises(Misconfigured, match="restore the recovery copy"):
            kek.load_kek(spec, APPLICATION, SERVICE, directory=tmp_path)
        assert kek.restore_kek(spec, APPLICATION, SERVICE, directory=tmp_path, recovery=copy) == made
        assert kek.load_kek(spec, APPLICATION, SERVICE, directory=tmp_path) == made
    finally:
        memory.volatile = False


def test_our_kernel_backend_counts_as_volatile(tmp_path: Path) -> None:
    try:
        assert kek.is_volatile("keyring:kernel", directory=tmp_path)
    except Misconfigured as exc:
        pytest.skip(str(exc))


def test_recovery_copy_is_private_and_holds_no_clear_key(tmp_path: Path) -> None:
    copy = RecoveryCopy(path=tmp_path / "recovery", ask=ask)
    made = kek.create_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
    assert stat.S_IMODE(copy.path.stat().st_mode) == 0o600
    assert made.hex() not in copy.path.read_text()


def test_restoring_beside_another_key_is_a_conflict_and_beside_the_same_is_not(tmp_path: Path) -> None:
    copy = RecoveryCopy(path=tmp_path / "recovery", ask=ask)
    made = kek.create_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
    assert kek.restore_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path, recovery=copy) == made
    other = kek.create_kek("file:other", APPLICATION, SERVICE, directory=tmp_path)
    with pytest.raises(Conflict, match="another key-encryption key"):
        kek.restore_kek("file:other", APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
    assert kek.load_kek("file:other", APPLICATION, SERVICE, directory=tmp_path) == other


@pytest.mark.parametrize(
    ("fault", "message"), [("refuses", "does not store"), ("forgets", "does not give back")]
)
def test_backend_that_fails_leaves_no_copy_behind(
    tmp_path: Path, memory: type[MemoryKeyring], monkeypatch: pytest.MonkeyPatch, fault: str, message: str
) -> None:
    monkeypatch.setattr(memory, fault, True)
    copy = RecoveryCopy(path=tmp_path / "recovery", ask=ask)
    with pytest.raises(Misconfigured, match=message):
        kek.create_kek("keyring:memory.Keyring", APPLICATION, SERVICE, directory=tmp_path, recovery=copy)
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
    with pytest.raises(Misconfigured, match="name the backend itself"):
        kek.create_kek(f"keyring:{backend}", APPLICATION, SERVICE, directory=tmp_path)


@pytest.mark.parametrize("backend", ["no_such_module.Keyring", "keyutils.backend.NoSuchClass"])
def test_backend_that_does_not_exist_is_misconfigured(tmp_path: Path, backend: str) -> None:
    with pytest.raises(Misconfigured, match="can't be used"):
        kek.load_kek(f"keyring:{backend}", APPLICATION, SERVICE, directory=tmp_path)


def test_keys_of_two_services_and_applications_are_apart(tmp_path: Path) -> None:
    spec = "keyring:memory.Keyring"
    names = [("shop.example", "ca"), ("shop.example", "credsvc"), ("other.example", "ca")]
    made = {kek.create_kek(spec, application, service, directory=tmp_path) for application, service in names}
    assert len(made) == 3
