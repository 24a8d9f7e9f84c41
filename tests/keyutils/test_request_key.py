"""The whole upcall: request_key(2) -> /sbin/request-key -> handler -> a manager on a UNIX socket -> key."""

from __future__ import annotations

import base64
import http.server
import json
import os
import socketserver
import subprocess
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from keyutils import client, install, keyring, permissions, request_key_handler

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from keyutils.keyring import KeySerial

REPOSITORY = Path(__file__).parents[2]


@dataclass(kw_only=True)
class StubManager:
    """A manager whose answer the test sets: status and JSON, or None to hang."""

    path: Path
    answer: Callable[[dict[str, Any]], tuple[int, dict[str, Any]] | None]
    requests: list[dict[str, Any]] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    block_on_close = False
    manager: StubManager


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        manager = self.server.manager
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        manager.requests.append({**body, "path": self.path})
        answer = manager.answer(body)
        if answer is None:
            manager.released.wait(20)
            return
        content = json.dumps(answer[1]).encode()
        self.send_response(answer[0])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name the base class has
        pass

    def address_string(self) -> str:
        return "unix"


def given(payload: bytes, timeout_s: int = 60) -> tuple[int, dict[str, Any]]:
    return 200, {"payload_b64": base64.b64encode(payload).decode(), "timeout_s": timeout_s}


def refused(name: str, negative_s: int = 1) -> tuple[int, dict[str, Any]]:
    return 403, {"errno": name, "negative_timeout_s": negative_s}


@pytest.fixture
def start(session: KeySerial, tmp_path: Path) -> Iterator[Callable[..., StubManager]]:
    """Start stub managers and register them with the machine's handler."""
    status = install.probe()
    if status.missing:
        pytest.skip("; ".join(status.missing))
    running: list[tuple[str, _Server]] = []

    def begin(answer: Callable[[dict[str, Any]], Any], *, uid: int = os.geteuid()) -> StubManager:
        name = f"test-{os.getpid()}-{len(running)}-{uuid.uuid4().hex[:8]}"
        path = tmp_path / f"m{len(running)}.sock"
        server = _Server(str(path), _Handler)
        server.manager = StubManager(path=path, answer=answer)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append((name, server))
        install.install(name, path, uid=uid, is_lasting=False)
        return server.manager

    yield begin
    for name, server in running:
        server.manager.released.set()
        server.shutdown()
        server.server_close()
        install.uninstall(name, is_lasting=False)


@pytest.fixture
def agent() -> str:
    return str(uuid.uuid4())


def only(agent: str, answer: tuple[int, dict[str, Any]] | None) -> Callable[[dict[str, Any]], Any]:
    """Answer for one agent; other tests and demos on this machine are not ours to answer."""
    return lambda body: answer if body["agent"] == agent else (404, {"errno": "ENOKEY"})


def test_miss_is_made_by_the_manager_and_then_hit(start: Callable[..., StubManager], agent: str) -> None:
    payload = bytes(range(256)) * 20
    manager = start(only(agent, given(payload)))
    assert client.request(agent, b'claim "token" \xc3\xa9;\n') == payload
    assert client.request(agent) == payload
    assert manager.requests == [
        {
            "agent": agent,
            "callout": 'claim "token" é;\n',
            "requester_pid": threading.get_native_id(),
            "requester_uid": os.geteuid(),
            "requester_gid": os.getegid(),
            "path": "/v1/upcall",
        }
    ]


def test_key_has_owner_mask_and_timeout(start: Callable[..., StubManager], agent: str) -> None:
    start(only(agent, given(b"x", timeout_s=1)))
    client.request(agent)
    serial = client.find(agent)
    assert serial is not None
    told = keyring.describe(serial)
    assert (told.uid, told.gid, told.permissions) == (0, 0, permissions.AGENT_KEY)
    time.sleep(1.1)
    assert client.find(agent) is None


def test_expired_key_is_made_anew(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(only(agent, given(b"x", timeout_s=1)))
    client.request(agent)
    time.sleep(1.1)
    assert client.request(agent) == b"x"
    assert len(manager.requests) == 2


def test_forgotten_key_is_made_anew(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(only(agent, given(b"x")))
    client.request(agent)
    client.forget(agent)
    time.sleep(0.05)
    assert client.request(agent) == b"x"
    assert len(manager.requests) == 2


def test_key_is_inherited_although_a_process_keyring_exists(
    start: Callable[..., StubManager], agent: str
) -> None:
    """The kernel would put it into the process keyring, which children don't see."""
    start(only(agent, given(b"x")))
    pid = os.fork()
    if pid == 0:
        keyring.serial_of(keyring.PROCESS_KEYRING, create=True)
        client.join_session()
        client.request(agent)
        child = os.fork()
        if child == 0:
            os._exit(0 if client.find(agent) else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_largest_payload_passes(start: Callable[..., StubManager], agent: str) -> None:
    payload = b"p" * keyring.MAX_PAYLOAD_BYTES
    start(only(agent, given(payload)))
    assert client.request(agent) == payload


@pytest.mark.parametrize("name", ["EKEYREJECTED", "EKEYREVOKED", "EAGAIN", "EDQUOT"])
def test_refusal_arrives_with_its_errno(start: Callable[..., StubManager], agent: str, name: str) -> None:
    start(only(agent, refused(name)))
    with pytest.raises(keyring.KeyringError) as caught:
        client.request(agent, b"token")
    assert caught.value.name == name


def test_refusal_is_remembered_for_its_seconds(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(only(agent, refused("EKEYREJECTED", 2)))
    for _ in range(3):
        with pytest.raises(keyring.KeyRejected):
            client.request(agent, b"token")
    assert len(manager.requests) == 1
    manager.answer = only(agent, given(b"x"))
    time.sleep(2.1)
    assert client.request(agent, b"token") == b"x"


def test_unknown_agent_is_enokey_and_the_next_manager_is_asked(
    start: Callable[..., StubManager], agent: str
) -> None:
    other = start(lambda _: (404, {"errno": "ENOKEY"}))
    start(only(agent, given(b"mine")))
    assert client.request(agent) == b"mine"
    with pytest.raises(keyring.KeyringError) as caught:
        client.request(str(uuid.uuid4()))
    assert caught.value.name in {"ENOKEY", "EAGAIN"}  # EAGAIN where a lasting manager of this machine is down
    assert [request["agent"] == agent for request in other.requests] == [True, False]


def test_manager_down_is_eagain_soon(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(only(agent, given(b"x")))
    manager.path.unlink()
    began = time.monotonic()
    with pytest.raises(keyring.KeyringError) as caught:
        client.request(agent)
    assert caught.value.name == "EAGAIN"
    assert time.monotonic() - began < 1


@pytest.mark.slow
def test_hung_manager_is_bounded_and_the_next_is_asked(start: Callable[..., StubManager], agent: str) -> None:
    start(lambda _: None)
    began = time.monotonic()
    with pytest.raises(keyring.KeyringError) as caught:
        client.request(agent)
    assert caught.value.name == "EAGAIN"
    assert time.monotonic() - began < request_key_handler.KILL_S
    other = str(uuid.uuid4())
    start(only(other, given(b"x")))
    assert client.request(other) == b"x"


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}),
        (200, {"payload_b64": "!", "timeout_s": 60}),
        (200, {"payload_b64": "eA==", "timeout_s": 0}),
        (200, {"payload_b64": "", "timeout_s": 60}),
        (403, {"errno": "EPERM"}),
        (500, {"title": "internal fault"}),
    ],
)
def test_nonsense_from_a_manager_is_eagain(
    start: Callable[..., StubManager], agent: str, answer: tuple[int, dict[str, Any]]
) -> None:
    start(only(agent, answer))
    with pytest.raises(keyring.KeyringError) as caught:
        client.request(agent)
    assert caught.value.name == "EAGAIN"


def test_callout_that_is_no_text_is_rejected_unasked(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(only(agent, given(b"x")))
    with pytest.raises(keyring.KeyRejected):
        client.request(agent, b"\xff\xfe")
    assert manager.requests == []


def test_socket_of_another_user_is_not_trusted(start: Callable[..., StubManager], agent: str) -> None:
    """The registration says who must listen: a stranger who took the path learns no token."""
    manager = start(only(agent, given(b"x")), uid=12345)
    with pytest.raises(keyring.KeyringError) as caught:
        client.request(agent, b"token")
    assert caught.value.name == "EAGAIN"
    assert manager.requests == []


def test_one_upcall_for_many_threads(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(only(agent, given(b"x")))
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(client.request(agent))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [b"x"] * 6
    assert len(manager.requests) == 1


_CHILD = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
os.setgroups([]); os.setgid(12346); os.setuid(12345)
from keyutils import client, keyring
client.join_session()
told = {"pid": os.getpid(), "payloads": []}
for agent in sys.argv[2:]:
    told["payloads"].append(len(client.request(agent)))
serial = client.find(sys.argv[2])
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
    subprocess.run(["cp", "-r", REPOSITORY / "keyutils", directory], check=True)
    subprocess.run(["chmod", "-R", "a+rX", directory], check=True)
    yield directory
    subprocess.run(["rm", "-rf", directory], check=True)


def test_unprivileged_requester(start: Callable[..., StubManager], readable: Path) -> None:
    """The manager is told the true requester; root's quota pays: 40 keys of 6,000 bytes would be 12 times theirs."""
    agents = [str(uuid.uuid4()) for _ in range(12)]
    manager = start(
        lambda body: given(b"x" * 6000) if body["agent"] in agents else (404, {"errno": "ENOKEY"})
    )
    interpreter = install.find_interpreter()
    assert interpreter is not None
    done = subprocess.run(
        [interpreter, "-I", "-c", _CHILD, readable, *agents], capture_output=True, text=True, check=False
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
        return given(b"x")

    start(answer)
    client.request(agent, b"marked-token-7261")
    assert any(b"request-key" in each for each in seen)
    assert not any(b"marked-token-7261" in each for each in seen)
