"""Opening the key-encryption key: never guessed, and every lack of it says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.kek import KEK_BYTES, FileStore, KeyringStore, PromptStore, load_kek, parse_kek_spec
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


@pytest.mark.parametrize("spec", ["file:kek", "prompt", "keyring:memory.Keyring"])
def test_missing_key_says_what_to_do(tmp_path: Path, spec: str) -> None:
    with pytest.raises(Misconfigured, match=r"No such file|restore the recovery copy"):
        load_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask)


def test_spec_names_the_store(tmp_path: Path) -> None:
    found = [parse_kek_spec(spec, directory=tmp_path) for spec in ("file:/a/b", "file:b", "prompt")]
    assert found == [
        FileStore(path=tmp_path / "/a/b"),
        FileStore(path=tmp_path / "b"),
        PromptStore(path=tmp_path / "kek.wrapped"),
    ]
    assert parse_kek_spec("keyring:kernel", directory=tmp_path) == KeyringStore(
        backend="keyutils.backend.KernelKeyring"
    )


@pytest.mark.parametrize(
    "spec", ["", "file:", "file", "prompt:x", "keyring:", "keyring:x", "keyring:a..b", "vault:x"]
)
def test_unknown_spec_is_refused(tmp_path: Path, spec: str) -> None:
    with pytest.raises(BadInput, match="wanted file:PATH") as caught:
        load_kek(spec, APPLICATION, SERVICE, directory=tmp_path)
    assert caught.value.field == "kek"


def test_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    create_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path)
    (tmp_path / "kek").chmod(0o640)
    with pytest.raises(Misconfigured, match="mode 0600"):
        load_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path)


@pytest.mark.parametrize("content", [b"", b"zz", b"00" * 31, b"00" * 33, b"\xff" * 64])
def test_damaged_file_is_told_without_its_content(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "kek").touch(mode=0o600)
    (tmp_path / "kek").write_bytes(content)
    with pytest.raises(Misconfigured, match="holds no key-encryption key") as caught:
        load_kek("file:kek", APPLICATION, SERVICE, directory=tmp_path)
    assert "00000000" not in str(caught.value)


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


@pytest.mark.parametrize("backend", ["no_such_module.Keyring", "keyutils.backend.NoSuchClass"])
def test_backend_that_does_not_exist_is_misconfigured(tmp_path: Path, backend: str) -> None:
    with pytest.raises(Misconfigured, match="can't be used"):
        load_kek(f"keyring:{backend}", APPLICATION, SERVICE, directory=tmp_path)


def test_only_a_keyring_key_loads_the_keyring_library(tmp_path: Path) -> None:
    (tmp_path / "kek").touch(mode=0o600)
    (tmp_path / "kek").write_text("00" * KEK_BYTES)
    program = (
        "import sys; from pathlib import Path; from ostiary.edge.kek import load_kek;"
        "load_kek('file:kek', 'shop.example', 'ca', directory=Path(sys.argv[1]));"
        "print({name.partition('.')[0] for name in sys.modules} & {'keyring', 'http', 'ssl', 'jaraco'})"
    )
    argv = [sys.executable, "-c", program, str(tmp_path)]
    assert subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip() == "set()"
