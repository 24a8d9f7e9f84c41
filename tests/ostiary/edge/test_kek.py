"""Opening the key-encryption key: never guessed, and every lack of it says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.edge.kek import load_kek
from ostiary.edge.kek_spec import KEK_BYTES
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


@pytest.mark.parametrize("spec", ["file:kek", "prompt", "keyring:memory.Keyring"])
def test_missing_key_says_what_to_do(tmp_path: Path, spec: str) -> None:
    with pytest.raises(Misconfigured, match=r"No such file|restore the recovery copy"):
        load_kek(spec, APPLICATION, SERVICE, directory=tmp_path, ask=ask)


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
