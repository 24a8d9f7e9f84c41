"""The words for where a key is kept, and files that hold one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.kek import load_kek
from ostiary.edge.kek_creation import create_kek
from ostiary.edge.kek_spec import FileStore, KeyringStore, PromptStore, parse_kek_spec
from ostiary.errors import BadInput, Misconfigured
from tests.support.memory_keyring import MemoryKeyring, memory_keyring

APPLICATION, SERVICE = "shop.example", "ca"
PASSPHRASE = "correct horse battery"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[MemoryKeyring]]:
    with memory_keyring(monkeypatch) as backend:
        yield backend


def ask() -> str:
    return PASSPHRASE


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
