"""The demonstration, then a search for each of its secrets: disk, logs, ledgers, arguments, environments,
memory.

A secret may be:
- a provider's secret: with the provider, and in a keyholder's memory;
- keys of CA, ledgers and intake: in a keyholder's memory;
- the approver's key and passphrase: with the approver;
- a key-encryption key: in `keyholder/kek`, the file of the default `--kek file:kek`, and in a keyholder's
  memory;
- a token: with its maker (admin), its bearer (manager, its agent) and the front that it is presented to;
  never on disk;
- an agent's private key: with the agent and its manager.

It must be nowhere else, in any form.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
    load_pem_private_key,
)
from rich.console import Console

from ca.home import CAHome
from ca.init import OFFLINE_ROOT_PURPOSE
from ca.keyholder.keys import CAKeys
from credsvc.init import APPROVER_SERVICE
from credsvc.keyholder.keys import CredentialKeys
from ostiary.demo.processes import Processes
from ostiary.demo.scenario import APPLICATION, play
from ostiary.demo.story import Story
from ostiary.demo.transcript import Transcript
from ostiary.edge.home import ServiceHome
from ostiary.edge.kek import load_kek
from ostiary.edge.passphrase import unwrap
from ostiary.keyholder.keys import KEYS_PURPOSE, open_keys
from ostiary.keyholder.seal import Sealer
from tests.support.killing import Roles
from tests.support.need import require_root
from tests.support.traces import descendants, forms, found_in_memory, in_files, matches_in_memory, role_of

pytestmark = pytest.mark.slow
PEM_KEY = re.compile(rb"-----BEGIN PRIVATE KEY-----\n[A-Za-z0-9+/=\n]{40,4000}-----END PRIVATE KEY-----")
Needles = dict[str, list[bytes]]
LOOK_S = 0.03


class Watcher:
    """Collects what processes show in their arguments and environments while they come and go."""

    def __init__(self) -> None:
        self.shown: set[bytes] = set()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)

    @contextmanager
    def watching(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._stop.set()
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(LOOK_S):
            for pid in descendants(os.getpid())[1:]:
                for name in ("cmdline", "environ"):
                    try:
                        self.shown.add(Path(f"/proc/{pid}/{name}").read_bytes())
                    except OSError:
                        continue


@dataclass(kw_only=True)
class Played:
    """A story that was played and whose processes still run."""

    story: Story
    watcher: Watcher
    secrets: dict[str, bytes] = field(default_factory=dict)

    def needles(self, *prefixes: str) -> Needles:
        """All forms of the secrets whose names begin so; of all without a prefix."""
        return {
            name: list(forms(secret).values())
            for name, secret in self.secrets.items()
            if name.startswith(prefixes or ("",))
        }

    def roles(self, service: str) -> dict[str, list[int]]:
        """A service's roles, with whoever descends from them."""
        found = Roles(ServiceHome(self.story.home / service)).ready()
        return {name: descendants(pid) for name, pid in found.items()}

    def agents(self) -> dict[str, int]:
        """The node controller and the demonstration's agents."""
        controller = self.story.processes.pids()["node-controller"]
        named = {f"{role_of(pid)} {pid}": pid for pid in descendants(controller)[1:]}
        agents = {name: pid for name, pid in named.items() if "clients/demo/agent.py" in name}
        return {"node-controller": controller, **agents}


@pytest.fixture(scope="module")
def played() -> Iterator[Played]:
    require_root()
    directory = Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp"))
    directory.chmod(0o755)
    transcript = Transcript(Console(file=io.StringIO()))
    story = Story(directory=directory, transcript=transcript, processes=Processes(directory))
    watcher = Watcher()
    try:
        with watcher.watching():
            play(story)
        played = Played(story=story, watcher=watcher)
        played.secrets = _secrets_of(played)
        yield played
    finally:
        story.close()
        shutil.rmtree(directory)


def search(pid: int, needles: Needles) -> set[str]:
    """What is in a process's memory, which is certainly read: every Python process has this word in it."""
    found = found_in_memory(pid, {**needles, "control": [b"python3"]})
    assert "control" in found, role_of(pid)
    return found - {"control"}


def _secrets_of(played: Played) -> dict[str, bytes]:
    story = played.story
    assert story.cloud is not None
    tokens = {name: made["token"].encode() for name, made in story.bootstrap["tokens"].items()}
    return {
        "provider: AWS secret key": story.cloud.secret_key.encode(),
        "provider: GoGrid secret": story.gogrid_secret.encode(),
        "approver: passphrase": story.passphrase.encode(),
        **{f"token: {name}": token for name, token in tokens.items()},
        **_sealed_keys(story),
        **{f"agent: {at}": key for at, key in enumerate(_agents_keys(played))},
    }


def _sealed_keys(story: Story) -> dict[str, bytes]:
    """What the key-encryption keys open, as a thief of the whole disk would; private scalars and seeds,
    big-endian.
    """
    ca_home = CAHome(ServiceHome(story.home / "ca"))
    ca_kek = load_kek("file:kek", APPLICATION, "ca", directory=ca_home.places.keyholder)
    ca_keys = open_keys(ca_home.places.sealed_keys.read_bytes(), CAKeys, Sealer(ca_kek, purpose=KEYS_PURPOSE))
    root = Sealer(ca_kek, purpose=OFFLINE_ROOT_PURPOSE).open(
        ca_home.sealed_root.read_bytes(), associated_data=ca_home.root().public_bytes(Encoding.DER)
    )
    home = ServiceHome(story.home / "credsvc")
    kek = load_kek("file:kek", APPLICATION, "credentials", directory=home.keyholder)
    keys = open_keys(home.sealed_keys.read_bytes(), CredentialKeys, Sealer(kek, purpose=KEYS_PURPOSE))
    wrapped = (story.directory / "approver.key").read_bytes()
    return {
        "kek: CA": ca_kek,
        "kek: credentials": kek,
        "key: root": _private(root),
        "key: issuing": _private(ca_keys.issuing_key),
        "key: CA's ledger": _private(ca_keys.ledger_key),
        "key: credentials' ledger": _private(keys.ledger_key),
        "key: intake": _private(keys.intake_key),
        "approver: key": unwrap(wrapped, story.passphrase, application=APPLICATION, service=APPROVER_SERVICE),
    }


def _private(pkcs8: bytes) -> bytes:
    key = load_der_private_key(pkcs8, password=None)
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key.private_numbers().private_value.to_bytes(key.key_size // 8, "big")
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def _agents_keys(played: Played) -> list[bytes]:
    """The agents' private keys, from where they are: the agents' memory."""
    found: set[bytes] = set()
    for pid in played.agents().values():
        for pem in matches_in_memory(pid, PEM_KEY):
            try:
                key = load_pem_private_key(pem, password=None)
            except ValueError:
                continue  # a block that was overwritten in part
            assert isinstance(key, ec.EllipticCurvePrivateKey)
            found.add(key.private_numbers().private_value.to_bytes(32, "big"))
    return sorted(found)


def test_the_search_finds_what_is_there(played: Played) -> None:
    """Without this test, finding nothing would prove nothing."""
    assert len([name for name in played.secrets if name.startswith("agent: ")]) >= 2
    provider = played.story.processes.pids()["provider"]
    assert "provider: AWS secret key" in search(provider, played.needles())
    kek_file = played.story.home / "credsvc" / "keyholder" / "kek"
    assert in_files(kek_file.parent, forms(played.secrets["kek: credentials"]).values()) == [str(kek_file)]
    shown = b"\n".join(played.watcher.shown)
    for seen in (b"credential\x00put\x00billing-aws", b"credsvc.role\x00keyholder", b"certmgr\x00serve"):
        assert seen in shown


def test_no_file_and_no_log_holds_a_secret(played: Played) -> None:
    """The key-encryption keys' own files are the documented exception."""
    directory = played.story.directory
    for name, needles in played.needles().items():
        found = {Path(path).relative_to(directory) for path in in_files(directory, needles)}
        service = {"kek: CA": "ca", "kek: credentials": "credsvc"}.get(name)
        assert found == ({Path(f"home/{service}/keyholder/kek")} if service else set()), name


@pytest.mark.parametrize("service", ["ca", "credentials"])
def test_no_entry_of_a_ledger_holds_a_secret(played: Played, service: str) -> None:
    entries: list[dict[str, Any]] = played.story.ostiary(
        "audit", "list", "--service", service, "--limit", "1000"
    )
    assert len(entries) > 10
    text = json.dumps(entries).encode()
    for name, needles in played.needles().items():
        assert not [needle for needle in needles if needle in text], name


def test_no_process_shows_a_secret_in_its_arguments_or_environment(played: Played) -> None:
    shown = b"\n".join(played.watcher.shown)
    assert len(played.watcher.shown) > 50
    for name, needles in played.needles().items():
        assert not [needle for needle in needles if needle in shown], name


@pytest.mark.parametrize("service", ["ca", "credsvc"])
def test_no_role_but_the_keyholder_has_a_secret_in_its_memory(played: Played, service: str) -> None:
    roles = played.roles(service)
    assert {"front", "recorder", "admin", "keyholder"} <= roles.keys()
    assert service == "ca" or len(roles["sandbox"]) > 1, "a zygote and its workers"
    for role in roles.keys() - {"keyholder"}:
        # A token is made by the CA's admin process and shown to its front; it is spent by now.
        is_shown_tokens = service == "ca" and role in {"admin", "front"}
        prefixes = ("provider", "approver", "kek", "key", "agent") + (() if is_shown_tokens else ("token",))
        for pid in roles[role]:
            assert search(pid, played.needles(*prefixes)) == set(), f"{service} {role}"


def test_no_agent_and_no_manager_has_what_is_not_its_own_in_its_memory(played: Played) -> None:
    needles = played.needles("provider", "approver", "kek", "key")
    for name, pid in {"manager": played.story.processes.pids()["certmgr"], **played.agents()}.items():
        assert search(pid, needles) == set(), name
