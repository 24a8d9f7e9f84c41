"""The roles that every service has, put together: keyholder, recorder, admin, and the supervisor over all of them.

Rules:
- A service gives its parts (evaluator, recording, verbs); what a role opens, who it becomes and whom it hears is decided here.
- The keyholder starts as the supervisor's user, because the key-encryption key may belong to it, and becomes its own user before
  it listens. Every other role is started as its own user.
- Each role announces readiness once it can serve, and ends with its supervisor.
"""

from __future__ import annotations

import contextlib
import logging
import os
import stat
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from ostiary.admin.server import Verb, serve_verbs
from ostiary.edge.home import ServiceHome
from ostiary.edge.hub import Hub
from ostiary.edge.hygiene import harden_process
from ostiary.edge.metrics import MetricsFile
from ostiary.edge.role import SUPERVISOR_VARIABLE, StopSignal, announce_ready, die_with_parent
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import Misconfigured
from ostiary.keyholder.engine import Evaluator
from ostiary.keyholder.process import KeyholderPlace, serve_keyholder
from ostiary.keyholder.protocol import Document
from ostiary.recorder.batch import Recorder
from ostiary.recorder.client import RecorderClient
from ostiary.recorder.database import open_for_reading, open_for_writing
from ostiary.recorder.keyholder_link import KeyholderLink
from ostiary.recorder.ledger_store import LedgerStore
from ostiary.recorder.ledger_tables import LedgerTables
from ostiary.recorder.process import RecorderLoop
from ostiary.recorder.service import Service
from ostiary.supervisor import Role, Supervisor, User, can_run_as

_log = logging.getLogger("ostiary.roles")
# glibc overwrites what is freed (mallopt(3), M_PERTURB); read before main, so it is the supervisor's to say.
_WIPES_FREED = {"GLIBC_TUNABLES": "glibc.malloc.perturb=165"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service lives and as whom its roles run."""

    home: ServiceHome
    users: RoleUsers
    database_url: str


def run_keyholder(place: Place, origin: str, unsealed: Callable[[], tuple[Evaluator, bytes]]) -> None:
    """Be the keyholder; see ostiary.keyholder.process for the order of its start."""
    for shortfall in harden_process().shortfalls:
        _log.warning("keyholder-less-protected", extra={"shortfall": shortfall})
    serve_keyholder(
        KeyholderPlace(
            socket=place.home.channel("keyholder"),
            high_water=place.home.high_water,
            recorder_uids=frozenset({place.users.uid(RoleName.RECORDER)}),
            origin=origin,
        ),
        unsealed=unsealed,
        drop_privileges=lambda: _become(place.users, RoleName.KEYHOLDER),
        ready=announce_ready,
    )


def _become(users: RoleUsers, role: RoleName) -> None:
    users.become(role)
    # A change of user clears what was set before exec (prctl(2), PR_SET_PDEATHSIG), and makes the process dumpable again.
    if supervisor := os.environ.get(SUPERVISOR_VARIABLE):
        die_with_parent(int(supervisor))
    harden_process()


def run_recorder(
    place: Place, service: Service, tables: LedgerTables, channels: Mapping[str, RoleName]
) -> None:
    """Be the recorder; `channels` says which role may ask on which channel."""
    # The readers' group may read what is written here.
    os.umask(0o027)
    engine = open_for_writing(place.database_url)
    ledger = LedgerStore(engine, tables)
    hub = Hub()
    for channel, role in channels.items():
        uids = frozenset({place.users.uid(role)})
        hub.listen(place.home.channel(channel), channel=channel, allowed_uids=uids, mode=0o666)
    link = KeyholderLink(
        hub=hub,
        path=place.home.channel("keyholder"),
        expected_uids=frozenset({place.users.uid(RoleName.KEYHOLDER)}),
        ledger=ledger,
        documents=lambda: _documents(engine, service),
    )
    recorder = Recorder(engine=engine, service=service, ledger=ledger)
    loop = RecorderLoop(hub=hub, service=service, recorder=recorder, keyholder=link)
    stop = StopSignal()
    hub.watch(stop.fd, name="stop")
    shown = MetricsFile(place.home.recorder_metrics, recorder.metrics, prefix="ostiary_recorder")
    announce_ready()
    while not stop.received:
        loop.step()
        shown.show()
    if recorder.unsettled:
        recorder.flush()


def _documents(engine: Engine, service: Service) -> list[Document]:
    with engine.begin() as tx:
        return service.documents(tx)


def run_admin(
    place: Place,
    make_verbs: Callable[[RecorderClient, Engine], Mapping[str, Verb]],
    operators_gid: int | None,
) -> None:
    """Be the admin process: root, the home's owner and the operators' group are heard, on a local socket only."""
    hub = Hub()
    hub.listen(
        place.home.operator_socket,
        channel="operator",
        allowed_uids=frozenset({0, place.home.path.stat().st_uid}),
        allowed_gids=frozenset() if operators_gid is None else frozenset({operators_gid}),
        mode=0o666,
    )
    recorder = recorder_client(place, "admin")
    verbs = make_verbs(recorder, open_for_reading(place.database_url))
    announce_ready()
    serve_verbs(hub, verbs)


def recorder_client(place: Place, channel: str) -> RecorderClient:
    """An edge's way to the recorder; make it after fork."""
    recorder_uid = place.users.uid(RoleName.RECORDER)
    return RecorderClient(place.home.channel(channel), expected_uids=frozenset({recorder_uid}))


def supervise(
    place: Place,
    program: str,
    roles: Sequence[RoleName],
    *,
    own_argv: Mapping[RoleName, Sequence[str]],
    inherited: Mapping[RoleName, tuple[int, ...]],
) -> None:
    """Start `python -m PROGRAM ROLE --home DIR` for each role (or its own argv), in order, and keep them running.

    `inherited` are descriptors that a role keeps over its exec, again at each restart.
    """
    place.home.lay_out(place.users)
    argv = [sys.executable, "-m", program]
    started = [
        Role(
            name=role.name.lower(),
            argv=own_argv.get(role) or [*argv, role.name.lower(), "--home", os.fspath(place.home.path)],
            user=_user(place.users, role),
            environment=_WIPES_FREED if role is RoleName.KEYHOLDER else {},
            inherited=inherited.get(role, ()),
        )
        for role in roles
    ]
    Supervisor(started, status_path=place.home.roles).run()


def _user(users: RoleUsers, role: RoleName) -> User | None:
    # The keyholder and the sandbox's zygote give up root themselves: one reads a key first, the other makes namespaces.
    if not users.separated or role in {RoleName.KEYHOLDER, RoleName.SANDBOX}:
        return None
    return User(uid=users.uid(role), gid=users.gid(role), groups=(users.readers_gid(),))


def choose_users(base: int, program: str, home: Path) -> RoleUsers:
    """A user for each role where this process is root and those users can enter the home and run this Python; else one for all."""
    if os.getuid() != 0:
        return RoleUsers(base=None)
    users = RoleUsers(base=base)
    probe = User(uid=users.uid(RoleName.RECORDER), gid=users.gid(RoleName.RECORDER))
    closed = next((parent for parent in home.parents if not parent.stat().st_mode & stat.S_IXOTH), None)
    if closed is not None:
        reason = f"other users can't enter '{closed}': put the home where they can"
    elif not can_run_as(probe, [program]):
        reason = f"uid {probe.uid} can't run {sys.executable}: install it where all may read"
    else:
        return users
    _log.warning("roles-share-a-user", extra={"reason": reason})
    return RoleUsers(base=None)


def require_socket(home: ServiceHome, service: str) -> None:
    """Raise Misconfigured where a service was never laid out."""
    with contextlib.suppress(OSError):
        if home.config.is_file():
            return
    raise Misconfigured(f"no {service} at '{home.path}': run `ostiary {service} init` first, or check --home")
