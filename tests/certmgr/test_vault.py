"""The vault over the kernel's key retention service: other threads and processes find its contents."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator

import pytest

from certmgr.vault import Vault
from keyutils import keyring
from keyutils.keyring import KeyringError, KeySerial
from ostiary.identity import AgentID, parse_agent_id
from tests.support.running_manager import ENVIRONMENT

READ = """
import sys
from certmgr.vault import Vault
found = Vault(sys.argv[1]).load()
print(sorted((name, content.decode()) for name, content in found.items()))
"""


@pytest.fixture
def manager() -> Iterator[AgentID]:
    name = parse_agent_id(str(uuid.uuid4()))
    yield name
    ring = keyring.search(keyring.USER_KEYRING, "keyring", f"ostiary-certmgr:{name}")
    keyring.clear(ring)
    keyring.unlink(ring, keyring.USER_KEYRING)


@pytest.fixture
def vault(manager: AgentID) -> Vault:
    try:
        keyring.serial_of(keyring.SESSION_KEYRING, create=True)
    except KeyringError as exc:
        pytest.skip(f"needs the key retention service: {exc}")
    return Vault(manager)


def test_another_process_finds_saved_contents(vault: Vault, manager: AgentID) -> None:
    assert vault.lacks is None
    assert vault.save("agent:a", b"one", timeout_s=60)
    assert vault.save("agent:a", b"two", timeout_s=60)
    assert vault.save("agent:b", b"three", timeout_s=60)
    command = [sys.executable, "-c", READ, manager]
    found = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=True)
    assert found.stdout.strip() == "[('agent:a', 'two'), ('agent:b', 'three')]"


def test_another_thread_sees_the_same(vault: Vault) -> None:
    vault.save("agent:a", b"one", timeout_s=60)
    found: list[dict[str, bytes]] = []
    thread = threading.Thread(target=lambda: found.append(vault.load()))
    thread.start()
    thread.join()
    assert found == [{"agent:a": b"one"}]


def test_dropped_and_expired_contents_are_gone(vault: Vault) -> None:
    vault.save("agent:a", b"one", timeout_s=60)
    vault.save("agent:b", b"two", timeout_s=1)
    vault.drop("agent:a")
    vault.drop("agent:never")
    time.sleep(1.2)
    assert vault.load() == {}
    assert vault.save("agent:b", b"anew", timeout_s=60)
    assert vault.load() == {"agent:b": b"anew"}


def test_save_says_when_the_kernel_refuses_a_content(vault: Vault, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not vault.save("agent:a", b"x" * 40_000, timeout_s=60)

    def refuse(*_arguments: object) -> KeySerial:
        raise KeyringError(errno.EDQUOT, "add_key")

    monkeypatch.setattr(keyring, "add_key", refuse)
    assert not vault.save("agent:a", b"x", timeout_s=60)
    assert vault.lacks == "the kernel takes no more keys of this user (EDQUOT)"


def test_without_the_key_retention_service_the_vault_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> KeySerial:
        raise KeyringError(errno.ENOSYS, "join_session_keyring")

    monkeypatch.setattr(keyring, "join_session", refuse)
    vault = Vault(parse_agent_id(str(uuid.uuid4())))
    assert vault.lacks == "the key retention service refuses (ENOSYS)"
    assert not vault.save("agent:a", b"x", timeout_s=60)
    assert vault.load() == {}
    vault.drop("agent:a")
