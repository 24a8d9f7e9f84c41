"""The certificate manager's process: builds every part, connects them, and serves the socket.

Rules:
- One worker process holds all agents; the parent only restarts it and holds no key. Everything is made in the
  worker, after the fork: memory locks and session keyrings don't cross it.
- Order: harden, vault, table (with what an earlier manager left), threads, socket. The first two on the main
  thread.
- It starts without its authority: agents wait, those that are installed go on.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import falcon

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
from certmgr.watch import ScopeWatch
from keyutils import install
from keyutils.install import InstallRefused
from ostiary.address import Address
from ostiary.edge.clock import SystemClock
from ostiary.edge.hygiene import harden_process
from ostiary.errors import Misconfigured
from ostiary.front.serve import Front, listen_tcp, listen_unix, run_front
from ostiary.token import Token

THREADS: Final = 16
_STACK_BYTES: Final = 512 << 10
_log = logging.getLogger("ostiary.certmgr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """What `serve` was told, and what became of registering with the kernel's upcall (None: it will reach
    us).
    """

    bootstrap: Bootstrap
    socket_path: Path
    listen: Address
    upcall_lacks: str | None


def serve(bootstrap: Bootstrap, *, socket_path: Path, listen: Address) -> None:
    """Be the certificate manager of this node until SIGTERM."""
    _check_alone(socket_path)
    sock = listen_unix(socket_path, mode=0o666)
    with _registered(socket_path) as lacks:
        serving = Serving(bootstrap=bootstrap, socket_path=socket_path, listen=listen, upcall_lacks=lacks)
        manager = Manager(serving)
        run_front(
            Front(
                listeners=[sock],
                make_app=manager.start,
                tls=None,
                workers=1,
                threads=THREADS,
                on_worker_exit=manager.stop,
            )
        )


def _check_alone(path: Path) -> None:
    """Refuse to take the socket of a manager that lives."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1)
        try:
            probe.connect(os.fspath(path))
        except OSError:
            return
    raise Misconfigured(f"another manager serves '{path}'; stop it first")


@contextlib.contextmanager
def _registered(socket_path: Path) -> Iterator[str | None]:
    """Tell the kernel's upcall of this manager for as long as it runs; gives the reason where that is not
    possible.
    """
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
    """What has a thread of its own."""

    def run(self) -> None: ...

    def stop(self) -> None: ...


class Manager:
    """All parts of the worker; made before the fork, started after it."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._stops: list[Callable[[], None]] = []

    def start(self) -> falcon.App[Any, Any]:
        """Build and start everything; return the application for the socket."""
        threading.stack_size(_STACK_BYTES)
        for shortfall in harden_process().shortfalls:
            _log.info("not hardened", extra={"shortfall": shortfall})
        bootstrap, clock, view = self._serving.bootstrap, SystemClock(), LinuxProcesses()
        vault = Vault(bootstrap.manager.agent)
        agents = _agents(bootstrap, vault, view, clock)
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
        conductor = Conductor(agents, authority, tokens=tokens, clock=clock)
        watch = ScopeWatch(agents, view, clock)
        feed = RevocationFeed(agents, authority)
        memories = [LedgerMemory(ledger, vault) for ledger in bootstrap.ledgers]
        own = f"{bootstrap.application}/ca"
        followers = [Follower(agents, "revocations", feed.turn)]
        followers += [
            Follower(agents, memory.origin, checkpoint_turn(memory, authority))
            for memory in memories
            if memory.origin == own
        ]
        listener = self._listener(agents)
        parts: list[_Part] = [conductor, watch, listener, *followers]
        for part in parts:
            self._stops.append(part.stop)
            threading.Thread(target=part.run, name=type(part).__name__, daemon=True).start()
        return build_api(
            agents,
            view=view,
            root=bootstrap.root,
            clock=clock,
            status=lambda: agents.status() | self._own_status() | {"ledgers": [m.status() for m in memories]},
        )

    def stop(self) -> None:
        """Stop the threads; agents live on."""
        for stop in self._stops:
            stop()

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


def shown_identity_pem(record: Record) -> bytes | None:
    """Return key and chain that prove an agent at the manager's endpoint: the one in use, else the pending
    one.
    """
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
