"""A CA's inner roles (keyholder, recorder, admin) as real processes in a home of their own; and those with
responder and status front.

There is no front for agents: tests talk to the recorder as that would, from processes that run as its user.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, ClassVar, Final, TypeVar

from ca.config import DEFAULT_GRANTS, ConfigFile
from ca.home import CAHome
from ca.init import InitPlan, init_ca
from ostiary.certificate import SerialHex
from ostiary.edge.home import ServiceHome
from ostiary.edge.http_client import HTTPClient, Response, tcp_connector
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import OstiaryError
from ostiary.roles import choose_users
from tests.support.killing import Roles
from tests.support.patient_client import PatientAdminClient
from tests.support.ports import free_port
from tests.support.repository import ROOT
from tests.support.waiting import PATIENCE_S, until

NODE: Final = "n1.nodes.shop.example"
_SERVE: Final = (
    "import sys; from pathlib import Path; from ca.serve import serve; "
    "from ostiary.edge.users import RoleName as R; "
    "serve(Path(sys.argv[1]), None, tuple(R[name.upper()] for name in sys.argv[2:]))"
)


CAT = TypeVar("CAT", bound="InnerCA")


class InnerCA:
    """One CA; `home` is HOME/ca."""

    roles: ClassVar[tuple[str, ...]] = ("keyholder", "recorder", "admin")

    def __init__(self, directory: Path) -> None:
        self.status_address = ("127.0.0.1", free_port())
        places = ServiceHome(directory / "ca")
        self.home = CAHome(places)
        self.users = choose_users(61200, "ca.role", places.path)
        settings = ConfigFile(
            application="shop.example",
            node="ca.shop.example",
            node_domains=["nodes.shop.example"],
            status_url=f"http://{_host_port(self.status_address)}",
            status_listen=_host_port(self.status_address),
            kek="file:kek",
            grants={name: list(held) for name, held in DEFAULT_GRANTS.items()},
        )
        init_ca(self.home, InitPlan(settings=settings, ask=None, recovery=None), users=self.users)
        self.log = (directory / "log").open("wb")
        self._supervisor: subprocess.Popen[bytes] | None = None

    @property
    def admin(self) -> PatientAdminClient:
        return PatientAdminClient(self.home.places.operator_socket, service="ca")

    def start(self) -> None:
        """Start the roles and wait until they answer an operator."""
        argv = [sys.executable, "-c", _SERVE, str(self.home.places.path), *self.roles]
        self._supervisor = subprocess.Popen(argv, cwd=ROOT, stdout=self.log, stderr=self.log)
        self.wait_until_up()

    def wait_until_up(self) -> None:
        def is_up() -> bool:
            with contextlib.suppress(OstiaryError, OSError):
                return bool(self.mint())
            return False

        until(is_up, lambda: Path(self.log.name).read_text("utf-8", "replace")[-3000:])

    def stop(self) -> None:
        if self._supervisor is not None:
            self._supervisor.terminate()
            self._supervisor.wait(PATIENCE_S)
        self.log.close()

    def mint(self, **arguments: Any) -> dict[str, Any]:
        """Mint a token for a harness on NODE."""
        members = {"subsystem": "component-harness", "node": NODE, "capabilities": ["credential:use"]}
        made: dict[str, Any] = self.admin.call("token.create", **{**members, **arguments})
        return made

    def kill(self, *names: str) -> None:
        """Send SIGKILL to roles; one that died by itself since the status was written is dead already."""
        Roles(self.home.places).kill(*names)

    def run_as_front(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the load program as the front's user."""
        argv = [sys.executable, "-m", "tests.support.ca_load", str(self.home.places.path), *arguments]
        return self._spawn(argv, RoleName.FRONT)

    def _spawn(self, argv: Sequence[str], role: RoleName) -> subprocess.Popen[bytes]:
        users: RoleUsers = self.users
        base = "" if users.base is None else str(users.base)
        return subprocess.Popen(
            argv,
            cwd=ROOT,
            env={**os.environ, "OSTIARY_ROLE_UID_BASE": base, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            user=users.uid(role) if users.separated else None,
            group=users.gid(role) if users.separated else None,
            extra_groups=[users.readers_gid()] if users.separated else None,
        )


class StatusCA(InnerCA):
    """A CA that tells the world about its certificates, at `status_address`."""

    roles = (*InnerCA.roles, "responder", "status")

    def wait_until_up(self) -> None:
        super().wait_until_up()

        def answers() -> bool:
            with contextlib.suppress(OstiaryError):
                return self.get("/healthz").status == 200
            return False

        until(answers, lambda: Path(self.log.name).read_text("utf-8", "replace")[-3000:])

    def get(self, path: str) -> Response:
        """GET from the status front."""
        return self.ask("GET", path)

    def ask(self, method: str, path: str, body: bytes = b"", content_type: str = "") -> Response:
        """Ask the status front, on a connection of its own."""
        with HTTPClient(tcp_connector(self.status_address, timeout_s=PATIENCE_S), host="status") as client:
            return client.request(method, path, body=body, content_type=content_type)

    def issue(self, count: int) -> list[SerialHex]:
        """Issue certificates to harnesses on NODE and return their serial numbers."""
        loading = self.run_as_front()
        assert loading.stdin is not None
        loading.stdin.write(b"".join(json.dumps(self.mint()).encode() + b"\n" for _ in range(count)))
        loading.stdin.close()
        loading.stdin = None
        return [result["serial"] for result in results_of(loading)]

    def revoke(self, serial: SerialHex) -> None:
        self.admin.call("certificate.revoke", serial=serial, reason="superseded")


def inner_ca() -> AbstractContextManager[InnerCA]:
    """Run a CA in a directory that other users may enter."""
    return _running(InnerCA)


def status_ca() -> AbstractContextManager[StatusCA]:
    """The same with responder and status front."""
    return _running(StatusCA)


@contextmanager
def _running(kind: type[CAT]) -> Iterator[CAT]:
    directory = Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp"))
    directory.chmod(0o755)
    made = kind(directory)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory)


def _host_port(address: tuple[str, int]) -> str:
    return f"{address[0]}:{address[1]}"


def results_of(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """Wait for a load program and return the JSON objects that it printed, one a line."""
    with process:
        output, _ = process.communicate(timeout=5 * PATIENCE_S)
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]
