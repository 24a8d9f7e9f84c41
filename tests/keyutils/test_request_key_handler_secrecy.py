"""Secrecy of an upcall: token and key reach only the registered manager and the requester."""

from __future__ import annotations

import json
import os
import subprocess
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keyutils import install, keyring
from tests.support.repository import ROOT
from tests.support.upcall import LAYOUT, StubManager, answer_for, key_answer, request


def test_socket_of_another_user_is_not_trusted(start: Callable[..., StubManager], agent: str) -> None:
    """The registration says who must listen: a stranger who took the path learns no token."""
    manager = start(answer_for(agent, key_answer(b"x")), uid=12345)
    with pytest.raises(keyring.KeyringError) as caught:
        request(agent, b"token")
    assert caught.value.name == "EAGAIN"
    assert manager.requests == []


_CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
os.setgroups([]); os.setgid(12346); os.setuid(12345)
from keyutils import agent_keys, keyring
agent_keys.join_session()
told = {"pid": os.getpid(), "payloads": []}
for agent in sys.argv[3:]:
    told["payloads"].append(len(agent_keys.request(agent, prefix=sys.argv[2])))
serial = agent_keys.find(sys.argv[3], prefix=sys.argv[2])
for verb, call in (("update", lambda: keyring.update(serial, b"y")),
                   ("set_timeout", lambda: keyring.set_timeout(serial, 0)),
                   ("setperm", lambda: keyring.setperm(serial, 0x3f3f0000)),
                   ("chown", lambda: keyring.chown(serial, 12345, 12346))):
    try:
        call(); told[verb] = "allowed"
    except keyring.KeyringError as exc:
        told[verb] = exc.name
told["quota"] = next(line for line in open("/proc/key-users") if line.split(":")[0].strip() == "12345")
print(json.dumps(told))
"""


@pytest.fixture
def readable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the package that any user can import; pytest's own directories are root's alone."""
    directory = Path(f"/run/ostiary-test-{os.getpid()}")
    if os.geteuid() != 0:
        pytest.skip(f"needs root (this is uid {os.geteuid()})")
    subprocess.run(["rm", "-rf", directory], check=True)
    directory.mkdir(mode=0o755)
    subprocess.run(["cp", "-r", ROOT / "keyutils", directory], check=True)
    subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
    yield directory
    subprocess.run(["rm", "-rf", directory], check=True)


def test_unprivileged_requester(start: Callable[..., StubManager], readable: Path) -> None:
    """The manager learns the true requester, and root's quota pays: 72,000 bytes exceed a user's 20,000."""
    agents = [str(uuid.uuid4()) for _ in range(12)]
    manager = start(
        lambda body: key_answer(b"x" * 6000) if body["agent"] in agents else (404, {"errno": "ENOKEY"})
    )
    interpreter = install.find_interpreter()
    assert interpreter is not None
    done = subprocess.run(
        [interpreter, "-I", "-c", _CHILD, readable, LAYOUT.prefix, *agents],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["payloads"] == [6000] * 12
    assert {told[verb] for verb in ("update", "set_timeout", "setperm", "chown")} == {"EACCES"}
    assert {(r["requester_pid"], r["requester_uid"], r["requester_gid"]) for r in manager.requests} == {
        (told["pid"], 12345, 12346)
    }
    bytes_charged = int(told["quota"].split()[4].split("/")[0])
    assert bytes_charged < 2000


def test_nothing_of_the_exchange_shows_in_the_process_table(
    start: Callable[..., StubManager], agent: str
) -> None:
    seen: list[bytes] = []

    def answer(body: dict[str, Any]) -> Any:
        if body["agent"] != agent:
            return 404, {"errno": "ENOKEY"}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    seen.append((entry / "cmdline").read_bytes() + (entry / "environ").read_bytes())
                except OSError:
                    continue
        seen.append(Path("/proc/keys").read_bytes())
        return key_answer(b"x")

    start(answer)
    request(agent, b"marked-token-7261")
    assert any(b"request-key" in each for each in seen)
    assert not any(b"marked-token-7261" in each for each in seen)
