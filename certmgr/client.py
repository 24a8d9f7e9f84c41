"""The manager's client, for agents to import: claim a certificate and keep TLS contexts renewed.

    identity = open_agent(token=os.read(fd, 200).decode(), socket_path="/run/ostiary/certmgr.sock")
    context = identity.ssl_context()                # an ssl.SSLContext; server_side=True for servers

Rules:
- It runs inside every agent, so it imports only the standard library and `keyutils`, and little of either.
- It uses the keyring where the kernel's upcall reaches the manager, else the manager's socket; both check
  user and scope. With the keyring, claim before threads start: a session keyring belongs to a thread.
- OpenSSL reads the private key from a sealed memfd; no file, argument or environment variable holds it.
- Only the first claim needs the token; later ones are recognised by user and scope (docs/adr/0013).
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

TIMEOUT_S = 10.0  # above the 8 s that the manager lets a claim wait (`certmgr.api.CLAIM_WAIT_S`)
_MAX_ANSWER_BYTES = 1 << 20
# The manager renews at two thirds of the lifetime or a little earlier (`certmgr.lifecycle.RENEW_AT`), so the
# next generation is there by now, unless the authority is away.
_REFRESH_AT = 2 / 3
_RETRY_S = 5.0
_END = b"-----END CERTIFICATE-----\n"
_CONF = "/etc/request-key.d/ostiary.conf"
# Nobody, not even a thread of this process, changes the key between writing it and OpenSSL's reading.
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class ManagerError(Exception):
    """The manager refused or did not answer; `kind` is that of its problem document (`busy`: retry)."""

    def __init__(self, message: str, *, kind: str, rule: str | None = None, field: str | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.rule = rule
        self.field = field


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A certificate with its key, all in PEM; `chain` starts with the leaf and ends before the root."""

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
    """Ask for a new agent, as an agent that may spawn it; return its name and claim token at once."""
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
    """Claim a certificate through the socket: with the claim token, or later by the agent's name.

    `lease` says that this process ends at once and others of its session continue as the agent.
    """
    body = {"token": token, "agent": agent, "lease": lease}
    answer = call(socket_path, "POST", "/v1/claim", body)
    return Claimed(
        **{name: answer[name] for name in ("agent", "generation", "not_before", "not_after")},
        **{name: answer[name].encode() for name in ("key", "certificate", "chain", "root")},
    )


def claim_by_keyring(agent: str, token: str | None) -> Claimed:
    """Claim a certificate through request_key(2); raises keyutils.keyring.KeyringError (OSError)."""
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
    """Put a certificate claimed through the socket into this thread's session keyring, read-only.

    Programs then find it as if the upcall had made it.
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
    # Never 0, which would mean that the key does not expire (keyctl_set_timeout(3)).
    keyring.set_timeout(serial, max(1, claimed.not_after - int(time.time())))
    keyring.setperm(serial, permissions.AGENT_KEY)


def _blocks(pem: bytes) -> tuple[bytes, ...]:
    return tuple(block + _END for block in pem.split(_END)[:-1])


def session_agents() -> list[str]:
    """Return the agents whose keys this thread's session keyring holds, as under `ostiary agent exec`."""
    from keyutils import agent_keys, keyring  # noqa: PLC0415 - as above

    found = []
    for serial in keyring.read_keyring(keyring.SESSION_KEYRING):
        try:
            description = keyring.describe(serial).description
        except keyring.KeyringError:
            continue  # expired or revoked since the keyring was read, or another user's
        if description.startswith(agent_keys.PREFIX):
            found.append(description.removeprefix(agent_keys.PREFIX))
    return found


def _is_held(agent: str) -> bool:
    from keyutils import agent_keys  # noqa: PLC0415 - as above

    return agent_keys.find(agent) is not None


def upcall_reaches(socket_path: str | Path) -> bool:
    """Whether the kernel's upcall is installed and asks the manager behind this socket."""
    # An agent that is not root can read both directories, but cannot tell whether the handler works.
    if not Path(_CONF).exists():
        return False
    wanted = str(Path(socket_path).absolute())
    for directory in map(Path, MANAGER_DIRECTORIES):
        try:
            # The first line of a registration is the socket's path (`keyutils.install`).
            lines = [path.read_text(encoding="utf-8").split("\n", 1)[0] for path in directory.iterdir()]
        except (OSError, UnicodeDecodeError):
            continue
        if wanted in lines:
            return True
    return False


class AgentIdentity:
    """One agent's certificate, claimed again at two thirds of its lifetime; thread-safe."""

    def __init__(
        self, socket_path: str | Path, *, agent: str | None, token: str | None, via: Via = "auto"
    ) -> None:
        self._socket_path = socket_path
        self._token = token
        self._by_keyring = via == "keyring" or (
            via == "auto" and agent is not None and (upcall_reaches(socket_path) or _is_held(agent))
        )
        self._lock = threading.Lock()  # around `_claimed` and `_tried`; held while the manager is asked
        self._claimed = self._fetch(agent, token)
        self._tried = time.monotonic()

    @property
    def agent(self) -> str:
        return self._claimed.agent

    def current(self) -> Claimed:
        """Return the certificate to use now; while the manager is away, the previous one until it expires."""
        with self._lock:
            if self._is_old() and time.monotonic() - self._tried > _RETRY_S:
                self._tried = time.monotonic()
                try:
                    # Without the token: the binding made by the first claim suffices.
                    self._claimed = self._fetch(self._claimed.agent, None)
                except (OSError, ManagerError):
                    if time.time() >= self._claimed.not_after:
                        raise
            return self._claimed

    def ssl_context(self, *, server_side: bool = False) -> RenewingContext:
        """Make a TLS 1.3 context with this certificate that trusts only the application's root."""
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
    """Claim an agent's certificate and keep it current; the keyring needs the name of the `agent`, too."""
    return AgentIdentity(socket_path, agent=agent, token=token, via=via)


class RenewingContext(ssl.SSLContext):
    """A context that delegates each handshake to one made for the current certificate.

    Settings made on it later do not reach the context behind it.
    """

    # SSLContext.__new__ takes the protocol alone and fixes it; `identity` is for __init__ only.
    def __new__(cls, protocol: ssl._SSLMethod, **_kwargs: object) -> Self:
        return super().__new__(cls, protocol)

    def __init__(self, protocol: ssl._SSLMethod, *, identity: AgentIdentity) -> None:
        self._ours = (protocol, identity)
        self._lock = threading.Lock()
        self._made: tuple[int, ssl.SSLContext] | None = None
        # http.client and urllib3 inspect a context before they connect (verify_mode, check_hostname): the
        # outer one gets the same settings as those behind it.
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
    """Make a context with a certificate and its key, which OpenSSL reads from a sealed memfd.

    Not wiped: OpenSSL's copy of the key, and the bytes in `claimed`.
    """
    context = ssl.SSLContext(protocol)
    _settle(context, protocol)
    context.load_verify_locations(cadata=claimed.root.decode("ascii"))
    fd = os.memfd_create("ostiary-agent", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, claimed.key + claimed.chain)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        # load_cert_chain wants a path and opens it twice, so a pipe will not do; CPython has no way to load
        # a key from memory (python/cpython#129216).
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
    return context


def _settle(context: ssl.SSLContext, protocol: ssl._SSLMethod) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # RFC 5280 to the letter, as ssl.create_default_context() asks since Python 3.13.
    context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT
    context.set_alpn_protocols(["http/1.1"])
    context.verify_mode = ssl.CERT_REQUIRED
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        # No resumption (RFC 8446 section 2.2): a resumed session would not show the peer's certificate again,
        # so its expiry and revocation would go unnoticed.
        context.num_tickets = 0


# --- one exchange over the manager's socket ---


def call(socket_path: str | Path, method: str, path: str, body: object = None) -> dict[str, Any]:
    """Send one request and return the answer's JSON; raises ManagerError."""
    # By hand, because importing http.client takes 7 ms, fifty times the exchange (-X importtime; 0.13 ms).
    # `Connection: close` frames the answer: it ends where the stream ends (RFC 9112 section 6.3).
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
        # "HTTP/1.1 200 OK": the three digits of status-code (RFC 9112 section 4)
        status, value = int(head[9:12]), json.loads(content)
    except ValueError:
        raise ManagerError("malformed response from the manager", kind="internal-fault") from None
    if not isinstance(value, dict):
        raise ManagerError("malformed response from the manager", kind="internal-fault")
    if status >= 400:
        kind = str(value.get("type", "")).removeprefix("urn:ostiary:problem:")
        message = value.get("detail") or value.get("title") or f"status {status}"
        raise ManagerError(message, kind=kind, rule=value.get("rule"), field=value.get("field"))
    return value
