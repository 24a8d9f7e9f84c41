"""Tools for tests that kill processes: a service's roles, clients that never pause, and a ledger's reader.

roles = Roles(ServiceHome(home / "ca"))
with load_of(clients) as load:
    killed = roles.kill("keyholder", "front")
    come_back(roles, killed, load)
follower.read_through(index)
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from ostiary.admin.client import AdminClient
from ostiary.edge.home import ServiceHome
from ostiary.errors import OstiaryError
from ostiary.ledger.checkpoint import Checkpoint, open_note
from ostiary.ledger.note import VerifierKey, parse_verifier_key
from ostiary.ledger.tree import Frontier
from ostiary.ledger.verify import Since, verify_log
from tests.support.traces import descendants
from tests.support.waiting import until

AnswerT = TypeVar("AnswerT")
_PAUSE_S = 0.02


class Roles:
    """The roles of one service, as the supervisor's status file lists them."""

    def __init__(self, home: ServiceHome) -> None:
        self._path = home.roles

    def rows(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._path.read_bytes())
        return found

    def names(self) -> list[str]:
        return [row["name"] for row in self.rows()]

    def pids(self) -> dict[str, int]:
        return {row["name"]: row["pid"] for row in self.rows() if row["pid"]}

    def ready(self) -> dict[str, int]:
        """Return the pids of the roles that are ready."""
        return {row["name"]: row["pid"] for row in self.rows() if row["state"] == "ready"}

    def signal(self, number: signal.Signals, *names: str) -> dict[str, int]:
        """Send a signal to roles and return their pids."""
        told = {name: pid for name, pid in self.pids().items() if name in names}
        for pid in told.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return told

    def kill(self, *names: str) -> dict[str, int]:
        return self.signal(signal.SIGKILL, *names)

    def are_back(self, killed: Mapping[str, int]) -> bool:
        """Return whether every role is ready, and new processes have replaced the killed ones."""
        ready = self.ready()
        return len(ready) == len(self.rows()) and all(ready[name] != pid for name, pid in killed.items())


class Load(Generic[AnswerT]):
    """Clients that send requests until stopped. `ask` returns a checked response; refusals are counted, wrong
    responses are kept.
    """

    def __init__(self, clients: Sequence[Callable[[], AnswerT]]) -> None:
        self.refused: Counter[str] = Counter()
        self.wrong: list[BaseException] = []
        self.answers: list[list[AnswerT]] = [[] for _ in clients]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._run, args=(ask, taken))
            for ask, taken in zip(clients, self.answers, strict=True)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def all_answers(self) -> list[AnswerT]:
        return [answer for taken in self.answers for answer in list(taken)]

    def has_answered_all(self, since: Sequence[int]) -> bool:
        """Whether each client got one more answer, asked for after `counts` was taken (one may have been on
        its way).
        """
        return all(len(taken) >= before + 2 for taken, before in zip(self.answers, since, strict=True))

    def counts(self) -> list[int]:
        return [len(taken) for taken in self.answers]

    def _run(self, ask: Callable[[], AnswerT], taken: list[AnswerT]) -> None:
        while not self._stop.is_set() and not self.wrong:
            try:
                taken.append(ask())
            except OstiaryError as exc:
                self.refused[f"{type(exc).__name__}: {exc.message}"] += 1
                self._stop.wait(_PAUSE_S)
            except BaseException as exc:  # noqa: BLE001 - an answer that is not right, or a client that broke
                self.wrong.append(exc)


@contextmanager
def load_of(clients: Sequence[Callable[[], AnswerT]]) -> Iterator[Load[AnswerT]]:
    """Run clients while the block runs."""
    load = Load(clients)
    load.start()
    try:
        yield load
    finally:
        load.stop()


def come_back(roles: Roles, killed: Mapping[str, int], load: Load[Any]) -> None:
    """Wait until all roles are ready and every client was answered again."""
    until(lambda: roles.are_back(killed), lambda: f"{sorted(killed)} ready again: {roles.rows()}")
    counts = load.counts()
    until(
        lambda: bool(load.wrong) or load.has_answered_all(counts),
        lambda: f"answers after {sorted(killed)} came back: refusals {load.refused}, {roles.rows()}",
    )
    assert not load.wrong, load.wrong


class Follower:
    """Reads a ledger as a returning auditor does: only new entries, proven against the newest checkpoint."""

    def __init__(self, home: ServiceHome, *, service: str) -> None:
        self._admin = AdminClient(home.operator_socket, service=service)
        self._key = _key_in(home.public / "ledger.vkey")
        self._since: Since | None = None
        self.entries: list[dict[str, Any]] = []

    def read_through(self, index: int) -> None:
        """Read on until the proven entries hold the one at `index`."""

        def is_read() -> bool:
            self.read_on()
            return len(self.entries) > index

        until(is_read, lambda: f"entry {index}: {len(self.entries)} are signed for")

    def read_on(self) -> None:
        """Take the newest checkpoint and prove what it adds."""
        checkpoint = self._checkpoint()
        texts: list[bytes] = []
        while (at := len(self.entries) + len(texts)) < checkpoint.size:
            page = self._admin.call("ledger.entries", first=at, count=checkpoint.size - at)
            texts += [row["entry"].encode() for row in page]
        texts = texts[: checkpoint.size - len(self.entries)]
        frontier: Frontier = verify_log(texts, checkpoint, since=self._since, hashes=None, waypoints=())
        self._since = Since(checkpoint=checkpoint, frontier=frontier)
        self.entries += [json.loads(text) for text in texts]

    def _checkpoint(self) -> Checkpoint:
        notes: list[str] = []

        def is_told() -> bool:
            with contextlib.suppress(OstiaryError):  # the admin role was among the killed
                notes.append(self._admin.call("ledger.checkpoint")["note"])
            return bool(notes)

        until(is_told, "the admin role's answer")
        return open_note(notes[0].encode(), [self._key])


def _key_in(path: Path) -> VerifierKey:
    return parse_verifier_key(path.read_text("ascii").strip())


def is_alive(pid: int) -> bool:
    """Return whether a process still runs; a zombie does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in {"Z", "X"}


def kill_supervisor(supervisor: subprocess.Popen[bytes], roles: Mapping[str, int]) -> None:
    """Kill the supervisor and check that its roles and all their workers end with it."""
    family = descendants(supervisor.pid)
    assert {*roles.values()} < {*family}, "the roles' workers are among them"
    supervisor.kill()
    supervisor.wait()
    until(
        lambda: not any(map(is_alive, family)),
        lambda: f"the ends of {[pid for pid in family if is_alive(pid)]}, whose supervisor was killed",
    )
