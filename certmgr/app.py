"""The certificate manager's process: builds every part, connects them, and serves the socket.

Rules:
- One process holds all agents. A service manager starts it again where it ends; the agents are in the kernel
  meanwhile (`certmgr.vault`).
- Its loop, on the main thread, serves the socket and the dial-back. What waits for the authority or watches
  processes has threads of its own (`_in_thread`).
- Order: harden, vault, table (with an earlier manager's records), threads, socket. The first two run on the
  main thread.
- The manager starts without its authority: new agents wait, installed ones keep working.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
import os
import random
import resource
import socket
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final, Protocol

from certmgr.agents import Agents, Node
from certmgr.api import build_api
from certmgr.binding import ManagerProcess
from certmgr.bootstrap import Bootstrap, Introduction
from certmgr.conductor import Conductor
from certmgr.est_client import ESTClient
from certmgr.followers import Follower, RevocationFeed, checkpoint_turn
from certmgr.keys import Names
from certmgr.ledger_memory import LedgerMemory
from certmgr.lifecycle import delivers
from certmgr.listener import ProofListener
from certmgr.processes import LinuxProcesses
from certmgr.record import Record
from certmgr.vault import Vault
from certmgr.watch import MAX_PIDFDS, ScopeWatch
from keyutils import install
from keyutils.install import InstallRefused
from ostiary.address import Address
from ostiary.edge.clock import SystemClock
from ostiary.edge.hygiene import harden_process
from ostiary.errors import Misconfigured
from ostiary.front.offload import Offload
from ostiary.front.serve import listen_tcp, listen_unix, run_alone
from ostiary.front.worker import Front, Limits, Served
from ostiary.token import Token

# Local programs, which ask rarely: of connections a user may have half, and `certmgr.waiting_claims` leaves
# the most to those that wait for nothing. A claim waits 8 s at most.
LIMITS: Final = Limits(connections=1024, held_bytes=16 << 20, work_s=30.0)
# Of the authority's clients, the dial-back, and what is open for a moment.
_OTHER_DESCRIPTORS: Final = 256
_WAITING_FOR_STATUS: Final = 16
# How long the loop waits for a thread that computes. The watch does for a tenth of the time, with a thousand
# agents, and a claim gives way at each file of /proc that it reads (docs/performance.md).
_SWITCH_S: Final = 0.0005
_log = logging.getLogger("ostiary.certmgr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The arguments of `serve`, and why the kernel's upcall will not reach this manager (None: it will)."""

    bootstrap: Bootstrap
    socket_path: Path
    listen: Address
    upcall_lacks: str | None


def serve(bootstrap: Bootstrap, *, socket_path: Path, listen: Address) -> None:
    """Be the certificate manager of this node until SIGTERM; SystemExit if it can't go on."""
    sys.setswitchinterval(_SWITCH_S)
    # Before there is a key in memory.
    for shortfall in harden_process():
        _log.info("manager-less-protected", extra={"shortfall": shortfall})
    _check_alone(socket_path)
    # Any user may connect: the kernel identifies each caller, and the rules of claims decide.
    sock = listen_unix(socket_path, mode=0o666)
    with _registered(socket_path) as lacks:
        serving = Serving(bootstrap=bootstrap, socket_path=socket_path, listen=listen, upcall_lacks=lacks)
        manager = Manager(serving)
        # All records live in one process; a second worker would have its own table.
        run_alone(Front(listeners=[sock], start=manager.start, workers=1, limits=LIMITS))


def _check_alone(path: Path) -> None:
    """Refuse to replace the socket of a manager that still accepts connections."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return
    raise Misconfigured(f"another manager serves '{path}'; stop it first")


@contextlib.contextmanager
def _registered(socket_path: Path) -> Iterator[str | None]:
    """Register this manager with the kernel's upcall while it runs; yields the reason if that fails."""
    # One name per socket path: a restarted manager replaces its own registration, a second one gets another.
    name = f"certmgr-{hashlib.sha256(os.fsencode(socket_path)).hexdigest()[:16]}"
    try:
        install.install(name, socket_path.absolute(), uid=os.geteuid(), is_lasting=False)
    except (InstallRefused, ValueError) as exc:
        yield str(exc)
        return
    try:
        yield None
    finally:
        with contextlib.suppress(OSError):
            install.uninstall(name, is_lasting=False)


class _Part(Protocol):
    """A part with a thread of its own: `run` returns some time after `stop`."""

    def run(self) -> None: ...

    def stop(self) -> None: ...


async def _in_thread(part: _Part) -> None:
    """Run a part until it ends, which is a fault; when cancelled, stop it and do not wait for it."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()

    def run() -> None:
        try:
            part.run()
        finally:
            # The loop may have ended before, with the worker.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(ended.set)

    # Started here, on the main thread: it inherits the session keyring that opens the vault. A daemon, so
    # that a call of the authority's that is under way does not keep the worker from ending.
    threading.Thread(target=run, name=type(part).__name__, daemon=True).start()
    try:
        await ended.wait()
    finally:
        part.stop()


class Manager:
    """All parts of the process."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving

    async def start(self, _slot: int) -> Served:
        """Build everything; return the application for the socket and what runs beside it.

        1. Open the vault. 2. Fill the table. 3. Build the authority's clients. 4. Build the parts, each with
        a thread or on the loop. 5. Build the application.
        """
        bootstrap, clock, view = self._serving.bootstrap, SystemClock(), LinuxProcesses()
        # 1. on the main thread, which the loop has: the threads of step 4 inherit its session keyring
        vault = Vault(bootstrap.manager.agent)
        # 2. an earlier manager's records first, then the two agents of the bootstrap document
        agents = _agents(bootstrap, vault, view, clock)
        # 3. the one client of the authority, shared by all parts
        authority = ESTClient(
            address=bootstrap.ca,
            application=bootstrap.application,
            root=bootstrap.root,
            root_pem=bootstrap.root_pem,
            clock=clock,
        )
        tokens: dict[str, Token] = {
            each.agent: each.token for each in (bootstrap.manager, bootstrap.controller)
        }
        # 4. a thread each
        memories = [LedgerMemory(ledger, vault) for ledger in bootstrap.ledgers]
        parts: dict[str, _Part] = {
            "conductor": Conductor(agents, authority, tokens=tokens, clock=clock),
            "watch": ScopeWatch(agents, view, clock, max_pidfds=_room_for_pidfds()),
            **_followers(bootstrap, agents, authority, memories),
        }
        tasks = {name: partial(_in_thread, part) for name, part in parts.items()}
        # 5. the socket answers from here on
        offload = Offload(threads=1, waiting=_WAITING_FOR_STATUS)
        app = build_api(
            agents,
            view=view,
            root=bootstrap.root,
            clock=clock,
            status=lambda: agents.status() | self._own_status() | {"ledgers": [m.status() for m in memories]},
            offload=offload,
        )

        async def close() -> None:
            offload.close()

        return Served(app=app, tls=None, tasks=tasks | {"dial-back": self._listener(agents).run}, close=close)

    def _listener(self, agents: Agents) -> ProofListener:
        introductions = (self._serving.bootstrap.manager, self._serving.bootstrap.controller)
        known = {f"{each.agent}.{self._serving.bootstrap.node}": each.agent for each in introductions}

        def identity_pem_of(host: str) -> bytes | None:
            agent = known.get(host)
            record = agents.get(agent) if agent else None
            return shown_identity_pem(record) if record else None

        return ProofListener(
            listen_tcp(self._serving.listen.host, self._serving.listen.port),
            identity_pem_of=identity_pem_of,
        )

    def _own_status(self) -> dict[str, Any]:
        return {
            "socket": os.fspath(self._serving.socket_path),
            "listen": str(self._serving.listen),
            "upcall": self._serving.upcall_lacks is None,
            "upcall_lacks": self._serving.upcall_lacks,
        }


def _room_for_pidfds() -> int:
    """Have the kernel allow descriptors for connections and watched processes; return how many of these."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    others = LIMITS.connections + _OTHER_DESCRIPTORS
    if soft < others + MAX_PIDFDS:
        soft = min(others + MAX_PIDFDS, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return max(0, min(MAX_PIDFDS, soft - others))


def _followers(
    bootstrap: Bootstrap, agents: Agents, authority: ESTClient, memories: list[LedgerMemory]
) -> dict[str, _Part]:
    feed = RevocationFeed(agents, authority)
    # The authority serves its own ledger only; other services' ledgers keep their first checkpoint here.
    turns = {"revocations": feed.turn} | {
        memory.origin: checkpoint_turn(memory, authority)
        for memory in memories
        if memory.origin == f"{bootstrap.application}/ca"
    }
    return {f"follower of {name}": Follower(agents, name, turn) for name, turn in turns.items()}


def shown_identity_pem(record: Record) -> bytes | None:
    """Return key and chain (PEM) for the dial-back: the delivered generation, else the one to be proven."""
    # A bootstrap agent has no delivered generation while the authority dials back for the first time.
    for generation in (record.current if delivers(record.life) else None, record.upcoming, record.current):
        if generation is not None and generation.issued is not None:
            return generation.identity_pem
    return None


def _agents(bootstrap: Bootstrap, vault: Vault, view: LinuxProcesses, clock: SystemClock) -> Agents:
    node = Node(
        application=bootstrap.application,
        node=bootstrap.node,
        manager=bootstrap.manager.agent,
        process=ManagerProcess(uid=os.geteuid(), pid=os.getpid()),
    )
    agents = Agents(node, view=view, vault=vault, clock=clock, jitter=random.SystemRandom().random)
    for each in (bootstrap.manager, bootstrap.controller):
        agents.introduce(_names(bootstrap, each), each.token)
    return agents


def _names(bootstrap: Bootstrap, introduction: Introduction) -> Names:
    return Names(
        application=bootstrap.application,
        subsystem=introduction.subsystem,
        node=bootstrap.node,
        agent=introduction.agent,
    )
