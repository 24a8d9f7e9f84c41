"""A CA's inner roles (keyholder, recorder, admin) as real processes in a home of their own.

There is no front: tests talk to the recorder as the front would, from processes that run as its user.
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
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ca.config import DEFAULT_GRANTS, ConfigFile
from ca.home import CAHome
from ca.init import InitPlan, init_ca
from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import OstiaryError
from ostiary.roles import choose_users
from tests.support.killing import Roles
from tests.support.patient_client import PatientAdminClient
from tests.support.repository import ROOT
from tests.support.waiting import PATIENCE_S, until

NODE: Final = "n1.nodes.shop.example"
_SERVE: Final = (
    "import sys; from pathlib import Path; from ca.serve import serve; "
    "from ostiary.edge.users import RoleName as R; "
    "serve(Path(sys.argv[1]), None, tuple(R[name.upper()] for name in sys.argv[2:]))"
)


class InnerCA:
    """One CA; `home` is HOME/ca."""

    def __init__(self, directory: Path) -> None:
        places = ServiceHome(directory / "ca")
        self.home = CAHome(places)
        self.users = choose_users(61200, "ca.role", places.path)
        settings = ConfigFile(
            application="shop.example",
            node="ca.shop.example",
            node_domains=["nodes.shop.example"],
            status_url="http://127.0.0.1:8080",
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
        argv = [sys.executable, "-c", _SERVE, str(self.home.places.path), "keyholder", "recorder", "admin"]
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


@contextmanager
def inner_ca() -> Iterator[InnerCA]:
    """Run a CA in a directory that other users may enter."""
    directory = Path(tempfile.mkdtemp(prefix="ost-", dir="/tmp"))
    directory.chmod(0o755)
    made = InnerCA(directory)
    try:
        made.start()
        yield made
    finally:
        made.stop()
        shutil.rmtree(directory)


def results_of(process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """Wait for a load program and return the JSON objects that it printed, one a line."""
    with process:
        output, _ = process.communicate(timeout=5 * PATIENCE_S)
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]
