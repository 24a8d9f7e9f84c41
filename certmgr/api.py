"""The manager's UNIX socket: HTTP and JSON, and a peer that the kernel identifies.

    POST /v1/agents              {"subsystem","capabilities","endpoints","uid"?,"pid"?}
                                 -> {"agent","claim_token"}
    POST /v1/claim               {"token"} (first), {"agent"} or both (again), "lease"?
                                 -> certificate, key and chain
    POST /v1/upcall              root only: the request of the kernel's handler
                                 (keyutils/request_key_handler.py)
    POST /v1/agents/{agent}/end  -> {"agent","state"}
    GET  /v1/status

Rules:
- Any user may connect; SO_PEERCRED and SO_PEERPIDFD identify the caller, never the request.
- Everything runs on the event loop but the status of all agents, which is long with thousands of them. What
  reads /proc or calls the kernel's keyring takes microseconds, and stays.
- An endpoint may omit its host (`https+tcp://:8443`): the host is the agent's own name, which the spawner
  cannot know in advance.
"""

from __future__ import annotations

import base64
import functools
import os
import re
import socket
import struct
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

import falcon
import falcon.asgi
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmgr.agents import AgentRequest, Agents
from certmgr.binding import Claim, Peer
from certmgr.pace import UserPace
from certmgr.processes import LinuxProcesses, leader_of_thread, pinned
from certmgr.record import Record, payload_of
from certmgr.scopes import ProcessKey
from ostiary.capabilities import parse_capabilities
from ostiary.edge.clock import Clock
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    NotFound,
    OstiaryError,
    Unauthenticated,
)
from ostiary.front.http import create_app, read_json, write_json
from ostiary.front.offload import Offload
from ostiary.front.peer import peer_credentials, peer_pidfd
from ostiary.identity import parse_agent_id, parse_endpoint, parse_subsystem
from ostiary.token import RANDOM_BYTES, Token, mint, parse_token

CLAIM_WAIT_S: Final = 8.0  # below the 10 s that `certmgr.client` waits for the answer
UPCALL_WAIT_S: Final = 2.0  # the handler gives all managers together 3 s (`request_key_handler.BUDGET_S`)
# The kernel serves a held key without asking us, so this is also how long a process that left the scope can
# go on reading it. The certificate outlives it by far.
KEY_TIMEOUT_S: Final = 300
_SO_PEERPIDFD: Final = 77  # asm-generic/socket.h, Linux 6.5; Python 3.11's socket module does not name it
_HOSTLESS: Final = re.compile(r"(?<=://)(?=:[0-9])")


class _Request(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    subsystem: str
    capabilities: list[str] = []
    endpoints: list[str] = []
    uid: int | None = None
    pid: int | None = None


class _Claim(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    token: str | None = None
    agent: str | None = None
    lease: bool = False


class _Upcall(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    agent: str
    callout: str
    requester_pid: int
    requester_uid: int
    requester_gid: int


def build_api(
    agents: Agents,
    *,
    view: LinuxProcesses,
    root: x509.Certificate,
    clock: Clock,
    status: Callable[[], dict[str, Any]],
    offload: Offload,
) -> falcon.asgi.App[Any, Any]:
    """Build the application; `status`, which `offload` calls, returns everything that `GET /v1/status`
    shows.
    """
    app = create_app(audience="operator", middleware=[UserPace(clock)])
    app.add_route("/v1/agents", _AgentsResource(agents, view))
    app.add_route("/v1/agents/{agent}/end", _End(agents, view))
    app.add_route("/v1/claim", _ClaimResource(agents, view, root))
    app.add_route("/v1/upcall", _UpcallResource(agents, view, root, clock))
    app.add_route("/v1/status", _Status(status, offload))
    return app


# --- the caller ---


def peer_of_request(view: LinuxProcesses) -> Peer:
    """Identify the process that connected; Forbidden when it has ended meanwhile."""
    credentials = peer_credentials()
    if credentials is None:
        raise AssertionError("the manager serves UNIX sockets only")
    pidfd = peer_pidfd()
    # SO_PEERCRED gives the pid of connect(2)'s caller, which may since have ended and its number been reused;
    # the pidfd pins that very process. Before Linux 6.5 `pinned` opens one by the pid, with that small race.
    if pidfd is None and kernel_has_peer_pidfd():
        raise Forbidden("the process that connected has ended", rule="claim-scope")
    return Peer(uid=credentials.uid, process=pinned(view, credentials.pid, pidfd))


@functools.cache
def kernel_has_peer_pidfd() -> bool:
    """Whether this kernel returns pidfds of peers (Linux 6.5); if it does, a peer without one has ended."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with here, there:
        try:
            os.close(struct.unpack("i", here.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD, 4))[0])
        except OSError:
            return False
    return True


# --- resources ---


class _AgentsResource:
    def __init__(self, agents: Agents, view: LinuxProcesses) -> None:
        self._agents = agents
        self._view = view

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Answer at once; key and signature follow in the background."""
        body = await read_json(req, _Request)
        peer = peer_of_request(self._view)
        agent = parse_agent_id(str(uuid.uuid4()))
        token = mint(os.urandom(RANDOM_BYTES))
        request = AgentRequest(
            subsystem=parse_subsystem(body.subsystem),
            capabilities=parse_capabilities(body.capabilities),
            endpoints=tuple(
                parse_endpoint_of(f"{agent}.{self._agents.node.node}", url) for url in body.endpoints
            ),
            uid=_checked_uid(body.uid),
            named=self._named(body.pid),
        )
        self._agents.spawn(peer, request, agent, token)
        resp.status = falcon.HTTP_201
        write_json(resp, {"agent": agent, "claim_token": token.reveal()})

    def _named(self, pid: int | None) -> ProcessKey | None:
        if pid is None:
            return None
        # PID_MAX_LIMIT of a 64-bit kernel is 2^22 (proc_sys_kernel(5), pid_max).
        process = self._view.process(pid) if 0 < pid < 1 << 22 else None
        if process is None:
            raise BadInput(f"pid: process {pid} does not exist", field="pid")
        return process.key


def parse_endpoint_of(host: str, url: str) -> str:
    """Parse an endpoint of the agent whose DNS name is `host`; it may omit the host, or name the node."""
    node = host.partition(".")[2]
    placed = _HOSTLESS.sub(host, url, count=1).replace(f"://{node}:", f"://{host}:", 1)
    endpoint = parse_endpoint(placed)
    if endpoint.host != host:
        raise BadInput(
            f"endpoints: '{endpoint}' names another host than the new agent's; omit the host",
            field="endpoints",
        )
    return str(endpoint)


def _checked_uid(uid: int | None) -> int | None:
    if uid is not None and not 0 <= uid < 1 << 32:
        raise BadInput(f"uid: {uid} is outside 0..4294967295", field="uid")
    return uid


class _ClaimResource:
    def __init__(self, agents: Agents, view: LinuxProcesses, root: x509.Certificate) -> None:
        self._agents = agents
        self._view = view
        self._root_pem = root.public_bytes(Encoding.PEM).decode("ascii")

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        body = await read_json(req, _Claim)
        if body.token is None and body.agent is None:
            raise BadInput(
                "token: a claim needs a token, or the name of an agent that the caller has claimed before",
                field="token",
            )
        token = parse_token(body.token) if body.token is not None else None
        agent = parse_agent_id(body.agent) if body.agent is not None else None
        claim = Claim(peer=peer_of_request(self._view), has_token=token is not None, wants_lease=body.lease)
        record = await self._agents.claim(claim, token=token, agent=agent, wait_s=CLAIM_WAIT_S)
        write_json(resp, self._delivery(record))

    def _delivery(self, record: Record) -> dict[str, Any]:
        generation = record.current
        if generation is None or generation.issued is None:
            raise AssertionError("a claim returns what can be delivered")
        issued = generation.issued
        pems = [each.public_bytes(Encoding.PEM).decode("ascii") for each in issued.chain]
        return {
            "agent": record.agent,
            "generation": generation.number,
            "certificate": pems[0],
            "key": generation.keys.private_key_pem.reveal().decode("ascii"),
            "chain": "".join(pems),
            "root": self._root_pem,
            "not_before": int(issued.not_before.timestamp()),
            "not_after": int(issued.not_after.timestamp()),
        }


class _UpcallResource:
    def __init__(self, agents: Agents, view: LinuxProcesses, root: x509.Certificate, clock: Clock) -> None:
        self._agents = agents
        self._view = view
        self._root = root
        self._clock = clock

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        credentials = peer_credentials()
        if credentials is None or credentials.uid != 0:
            raise Forbidden("only the kernel's upcall, which runs as root, may call this", rule="upcall-root")
        body = await read_json(req, _Upcall)
        try:
            record = await self._claimed(body)
        except OstiaryError as exc:
            # The handler knows one form of refusal (docs/keyring.md, wire version 1), not problem documents.
            resp.status = falcon.HTTP_403
            write_json(resp, {"errno": errno_name(exc), "negative_timeout_s": 1})
            return
        payload = base64.b64encode(payload_of(record, self._root)).decode("ascii")
        write_json(resp, {"payload_b64": payload, "timeout_s": key_timeout_s(record, self._clock.now())})

    async def _claimed(self, body: _Upcall) -> Record:
        """Claim for the thread that waits in request_key(2).

        It sleeps in the kernel until the handler ends and not even SIGKILL ends it before, so its number
        cannot pass to another process while this runs (measured on Linux 6.18).
        """
        agent = parse_agent_id(body.agent)
        if self._agents.get(agent) is None:
            raise NotFound("not an agent of this manager")
        token: Token | None = parse_token(body.callout) if body.callout else None
        process = pinned(self._view, leader_of_thread(body.requester_pid), None)
        peer = Peer(uid=body.requester_uid, process=process)
        claim = Claim(peer=peer, has_token=token is not None, wants_lease=False)
        return await self._agents.claim(claim, token=token, agent=agent, wait_s=UPCALL_WAIT_S)


def errno_name(exc: OstiaryError) -> str:
    """Return the errno that the agent gets from request_key(2) (docs/keyring.md)."""
    match exc:
        # The handler asks the next manager.
        case NotFound():
            return "ENOKEY"
        case Conflict():
            return "EKEYREVOKED"
        case Busy():
            return "EAGAIN"
        # A bad, a spent and a foreign token look alike to the requester.
        case BadInput() | Unauthenticated() | Forbidden():
            return "EKEYREJECTED"
        case _:
            return "EAGAIN"


def key_timeout_s(record: Record, now: datetime) -> int:
    """Return the key's timeout: at most KEY_TIMEOUT_S, and never beyond the certificate's notAfter."""
    # set_timeout(0) would mean "never" (keyctl_set_timeout(3)).
    window = record.life.used
    left_s = int((window[1] - now).total_seconds()) if window else 1
    return max(1, min(KEY_TIMEOUT_S, left_s))


class _End:
    def __init__(self, agents: Agents, view: LinuxProcesses) -> None:
        self._agents = agents
        self._view = view

    async def on_post(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, agent: str) -> None:
        self._agents.end(peer_of_request(self._view), parse_agent_id(agent))
        record = self._agents.get(agent)
        write_json(resp, {"agent": agent, "state": record.life.state.value if record else "ended"})


class _Status:
    def __init__(self, status: Callable[[], dict[str, Any]], offload: Offload) -> None:
        self._status = status
        self._offload = offload

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = "application/json"
        resp.data = await self._offload.run(lambda: msgspec.json.encode(self._status()))
