"""The library for agents: get one's certificate from the node's manager, and a TLS context that renews
itself.

    identity = open_agent(token=os.read(fd, 200).decode(), socket_path="/run/ostiary/certmgr.sock")
    context = identity.ssl_context()                # an ssl.SSLContext for clients; server_side=True for servers

Rules:
- It imports the standard library and `keyutils` only, and of those little: it lives in every agent.
- By the keyring where the kernel's upcall reaches the manager (call before threads start: a session keyring
  is a thread's), else by the socket; both doors check user and scope.
- The private key comes to OpenSSL by a sealed memfd; it is in no file, argument or environment variable.
- A claim token is needed the first time only; the manager knows its agent again by user and scope.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from keyutils.request_key_handler import MANAGER_DIRECTORIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from keyutils.payload import EpochSeconds

Via = Literal["auto", "keyring", "socket"]

TIMEOUT_S = 10.0
_MAX_ANSWER_BYTES = 1 << 20
_REFRESH_AT = 2 / 3
_RETRY_S = 5.0
_END = b"-----END CERTIFICATE-----\n"
_CONF = "/etc/request-key.d/ostiary.conf"
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ManagerError(Exception):
    """The manager said no, or nothing. `kind` is that of its problem document (`busy`: try again)."""

    def __init__(self, message: str, *, kind: str, rule: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.rule = rule
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A certificate with its key; times are seconds since the epoch, `chain` is leaf first, all PEM."""

    agent: str
    generation: int
    not_before: EpochSeconds
    not_after: EpochSeconds
    key: bytes = field(repr=False)
    certificate: bytes
    chain: bytes
    root: bytes


def request_agent(
    socket_path: str | Path,
    subsystem: str,
    *,
    capabilities: Sequence[str] = (),
    endpoints: Sequence[str] = (),
    uid: int | None = None,
    pid: int | None = None,
) -> tuple[str, str]:
    """Ask for a new agent, as an agent that may spawn it; return its name and its claim token, at once."""
    body = {
        "subsystem": subsystem,
        "capabilities": list(capabilities),
        "endpoints": list(endpoints),
        "uid": uid,
        "pid": pid,
    }
    answer = call(socket_path, "POST", "/v1/agents", body)
    return answer["agent"], answer["claim_token"]


def claim(
    socket_path: str | Path, token: str | None, *, agent: str | None = None, lease: bool = False
) -> Claimed:
    """Get a certificate by the socket: with the claim token, or again by the agent's name.

    `lease` says that this process ends at once and others of its session go on as the agent.
    """
    body = {"token": token, "agent": agent, "lease": lease}
    answer = call(socket_path, "POST", "/v1/claim", body)
    return Claimed(
        **{name: answer[name] for name in ("agent", "generation", "not_before", "not_after")},
        **{name: answer[name].encode() for name in ("key", "certificate", "chain", "root")},
    )


def claim_by_keyring(agent: str, token: str | None) -> Claimed:
    """Get a certificate by request_key(2); raises keyutils.keyring.KeyringError (OSError)."""
    from keyutils import agent_keys, payload  # noqa: PLC0415 - ctypes costs those who use the socket nothing

    got = payload.decode(agent_keys.request(agent, (token or "").encode()))
    return Claimed(
        agent=got.agent,
        generation=got.generation,
        not_before=got.not_before,
        not_after=got.not_after,
        key=got.private_key_pem,
        certificate=got.certificate_pem,
        chain=b"".join(got.chain_pem),
        root=b"".join(got.roots_pem),
    )


def keep_in_session(claimed: Claimed) -> None:
    """Put what was claimed by the socket where the upcall would have put it: this thread's session keyring,
    read only.
    """
    from keyutils import agent_keys, keyring, payload, permissions  # noqa: PLC0415 - as above

    text = payload.encode(
        payload.Payload(
            agent=claimed.agent,
            generation=claimed.generation,
            not_before=claimed.not_before,
            not_after=claimed.not_after,
            private_key_pem=claimed.key,
            chain_pem=_blocks(claimed.chain),
            roots_pem=_blocks(claimed.root),
        )
    )
    serial = keyring.add_key(
        agent_keys.TYPE, agent_keys.PREFIX + claimed.agent, text, keyring.SESSION_KEYRING
    )
    keyring.set_timeout(serial, max(1, claimed.not_after - int(time.time())))
    keyring.setperm(serial, permissions.AGENT_KEY)


def _blocks(pem: bytes) -> tuple[bytes, ...]:
    return tuple(block + _END for block in pem.split(_END)[:-1])


def session_agents() -> list[str]:
    """Return the agents whose keys this thread's session keyring holds: what `ostiary agent exec` was run
    for.
    """
    from keyutils import agent_keys, keyring  # noqa: PLC0415 - as above

    found = []
    for serial in keyring.read_keyring(keyring.SESSION_KEYRING):
        try:
            description = keyring.describe(serial).description
        except keyring.KeyringError:
            continue
        if description.startswith(agent_keys.PREFIX):
            found.append(description.removeprefix(agent_keys.PREFIX))
    return found


def _is_held(agent: str) -> bool:
    from keyutils import agent_keys  # noqa: PLC0415 - as above

    return agent_keys.find(agent) is not None


def upcall_reaches(socket_path: str | Path) -> bool:
    """Whether the kernel's upcall is installed and asks the manager behind this socket."""
    if not Path(_CONF).exists():
        return False
    wanted = str(Path(socket_path).absolute())
    for directory in map(Path, MANAGER_DIRECTORIES):
        try:
            lines = [path.read_text(encoding="utf-8").split("\n", 1)[0] for path in directory.iterdir()]
        except (OSError, UnicodeDecodeError):
            continue
        if wanted in lines:
            return True
    return False


class AgentIdentity:
    """One agent's certificate, fetched again at two thirds of its lifetime; thread-safe."""

    def __init__(
        self, socket_path: str | Path, *, agent: str | None, token: str | None, via: Via = "auto"
    ) -> None:
        self._socket_path = socket_path
        self._token = token
        self._by_keyring = via == "keyring" or (
            via == "auto" and agent is not None and (upcall_reaches(socket_path) or _is_held(agent))
        )
        self._lock = threading.Lock()
        self._claimed = self._fetch(agent, token)
        self._tried = time.monotonic()

    @property
    def agent(self) -> str:
        return self._claimed.agent

    def current(self) -> Claimed:
        """The certificate to use now; the one before while the manager can't be reached and it is still
        valid.
        """
        with self._lock:
            if self._is_old() and time.monotonic() - self._tried > _RETRY_S:
                self._tried = time.monotonic()
                try:
                    self._claimed = self._fetch(self._claimed.agent, None)
                except (OSError, ManagerError):
                    if time.time() >= self._claimed.not_after:
                        raise
            return self._claimed

    def ssl_context(self, *, server_side: bool = False) -> RenewingContext:
        """Make a context for TLS 1.3 with this certificate, trusting the application's root only."""
        protocol = ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT
        return RenewingContext(protocol, identity=self)

    def _is_old(self) -> bool:
        lifetime_s = self._claimed.not_after - self._claimed.not_before
        return time.time() >= self._claimed.not_before + _REFRESH_AT * lifetime_s

    def _fetch(self, agent: str | None, token: str | None) -> Claimed:
        if self._by_keyring and agent is not None:
            return claim_by_keyring(agent, token)
        return claim(self._socket_path, token, agent=agent)


def open_agent(
    *, socket_path: str | Path, agent: str | None = None, token: str | None = None, via: Via = "auto"
) -> AgentIdentity:
    """Claim, and keep claiming, an agent's certificate; the keyring is used where `agent` is known, too."""
    return AgentIdentity(socket_path, agent=agent, token=token, via=via)


class RenewingContext(ssl.SSLContext):
    """A context that stands for the one of the certificate to use now; settings made on it later are not
    carried over.
    """

    def __new__(cls, protocol: ssl._SSLMethod, **_kwargs: object) -> Self:
        return super().__new__(cls, protocol)

    def __init__(self, protocol: ssl._SSLMethod, *, identity: AgentIdentity) -> None:
        self._ours = (protocol, identity)
        self._lock = threading.Lock()
        self._made: tuple[int, ssl.SSLContext] | None = None
        # What callers look at before they connect (http.client, urllib3) is true of the context behind, too.
        _settle(self, protocol)

    def wrap_socket(self, *args: Any, **kwargs: Any) -> ssl.SSLSocket:
        return self._now().wrap_socket(*args, **kwargs)

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self._now().wrap_bio(*args, **kwargs)

    def _now(self) -> ssl.SSLContext:
        protocol, identity = self._ours
        claimed = identity.current()
        with self._lock:
            if self._made is None or self._made[0] != claimed.generation:
                self._made = (claimed.generation, make_context(claimed, protocol))
            return self._made[1]


def make_context(claimed: Claimed, protocol: ssl._SSLMethod) -> ssl.SSLContext:
    """Make a context with a certificate and its key, which OpenSSL reads from a sealed memfd."""
    context = ssl.SSLContext(protocol)
    _settle(context, protocol)
    context.load_verify_locations(cadata=claimed.root.decode("ascii"))
    fd = os.memfd_create("ostiary-agent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, claimed.key + claimed.chain)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


def _settle(context: ssl.SSLContext, protocol: ssl._SSLMethod) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0


# --- one exchange over the manager's socket
# ---------------------------------------------------------------------------------------


def call(socket_path: str | Path, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Send one request and return the answer's JSON; raises ManagerError."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    )
    received = bytearray()
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_S)
            connection.connect(os.fspath(socket_path))
            connection.sendall(head.encode() + content)
            while (piece := connection.recv(65_536)) and len(received) <= _MAX_ANSWER_BYTES:
                received += piece
    except OSError as exc:
        reason = exc.strerror or "no answer in time"
        raise ManagerError(f"the manager at '{socket_path}' does not answer: {reason}", kind="busy") from exc
    return _parse(bytes(received))


def _parse(answer: bytes) -> dict[str, Any]:
    head, _, content = answer.partition(b"\r\n\r\n")
    try:
        status, value = int(head[9:12]), json.loads(content)
    except ValueError:
        raise ManagerError("the manager's answer can't be read", kind="internal-fault") from None
    if not isinstance(value, dict):
        raise ManagerError("the manager's answer can't be read", kind="internal-fault")
    if status >= 400:
        kind = str(value.get("type", "")).removeprefix("urn:ostiary:problem:")
        message = value.get("detail") or value.get("title") or f"status {status}"
        raise ManagerError(message, kind=kind, rule=value.get("rule"), field=value.get("field"))
    return value
