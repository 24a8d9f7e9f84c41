"""The certificate manager's process: builds every part, connects them, and serves the socket.

Rules:
- One worker process holds all agents; its parent only restarts it and holds no key. The worker builds
  everything after the fork, because neither memory locks (mlock(2)) nor threads survive one.
- Order: harden, vault, table (with an earlier manager's records), threads, socket. The first two run on the
  main thread.
- The manager starts without its authority: new agents wait, installed ones keep working.
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

THREADS: Final = 16  # of the socket; `certmgr.agents.MAX_WAITING` of them may wait for a certificate
# mlockall(MCL_FUTURE) locks the whole stack of every new thread; the default of 8 MiB would lock 200 MiB.
_STACK_BYTES: Final = 512 << 10
_log = logging.getLogger("ostiary.certmgr")


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """The arguments of `serve`, and why the kernel's upcall will not reach this manager (None: it will)."""

    bootstrap: Bootstrap
    socket_path: Path
    listen: Address
    upcall_lacks: str | None


def serve(bootstrap: Bootstrap, *, socket_path: Path, listen: Address) -> None:
    """Be the certificate manager of this node until SIGTERM."""
    _check_alone(socket_path)
    # Any user may connect: the kernel identifies each caller, and the rules of claims decide.
    sock = listen_unix(socket_path, mode=0o666)
    with _registered(socket_path) as lacks:
        serving = Serving(bootstrap=bootstrap, socket_path=socket_path, listen=listen, upcall_lacks=lacks)
        manager = Manager(serving)
        run_front(
            Front(
                listeners=[sock],
                make_app=manager.start,
                tls=None,
                workers=1,  # all records live in one process; a second worker would have its own table
                threads=THREADS,
                on_worker_exit=manager.stop,
            )
        )


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
    """A part with a thread of its own."""

    def run(self) -> None: ...

    def stop(self) -> None: ...


class Manager:
    """All parts of the worker; constructed before the fork, started after it."""

    def __init__(self, serving: Serving) -> None:
        self._serving = serving
        self._stops: list[Callable[[], None]] = []

    def start(self) -> falcon.App[Any, Any]:
        """Build and start everything; return the application for the socket.

        1. Harden the process. 2. Open the vault. 3. Fill the table. 4. Build the authority's clients.
        5. Start a thread per part. 6. Build the application.
        """
        # 1. before there is any secret in memory
        threading.stack_size(_STACK_BYTES)
        for shortfall in harden_process():
            _log.info("manager-less-protected", extra={"shortfall": shortfall})
        bootstrap, clock, view = self._serving.bootstrap, SystemClock(), LinuxProcesses()
        # 2. on the main thread: the threads of step 5 inherit its session keyring (`certmgr.vault`)
        vault = Vault(bootstrap.manager.agent)
        # 3. an earlier manager's records first, then the two agents of the bootstrap document
        agents = _agents(bootstrap, vault, view, clock)
        # 4. the one client of the authority, shared by all parts
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
        # The authority serves its own ledger only; other services' ledgers keep their first checkpoint here.
        followers = [Follower(agents, "revocations", feed.turn)]
        followers += [
            Follower(agents, memory.origin, checkpoint_turn(memory, authority))
            for memory in memories
            if memory.origin == f"{bootstrap.application}/ca"
        ]
        listener = self._listener(agents)
        # 5. daemon threads, so the worker ends without waiting for them
        parts: list[_Part] = [conductor, watch, listener, *followers]
        for part in parts:
            self._stops.append(part.stop)
            threading.Thread(target=part.run, name=type(part).__name__, daemon=True).start()
        # 6. the socket answers from here on
        return build_api(
            agents,
            view=view,
            root=bootstrap.root,
            clock=clock,
            status=lambda: agents.status() | self._own_status() | {"ledgers": [m.status() for m in memories]},
        )

    def stop(self) -> None:
        """Stop the threads; the agents' records stay in the kernel."""
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
