"""A service's home on disk: one property per place, and who may enter it.

Rules:
- A directory of a channel belongs to the role that listens there; its group is the role that asks. Nobody
  else may enter.
- The store belongs to the recorder; its readers share a group and cannot write.
- `public` holds what anybody may have; nothing secret lies anywhere unsealed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ostiary.edge.users import RoleName, RoleUsers


@dataclass(frozen=True, slots=True)
class ServiceHome:
    """The places of one service below its home."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings; no secret in it."""
        return self.path / "config.toml"

    @property
    def public(self) -> Path:
        """Certificates and public keys."""
        return self.path / "public"

    @property
    def keyholder(self) -> Path:
        """The keyholder's own directory: sealed keys, high-water mark."""
        return self.path / "keyholder"

    @property
    def sealed_keys(self) -> Path:
        """The keyholder's keys, sealed."""
        return self.keyholder / "keys.sealed"

    @property
    def high_water(self) -> Path:
        """The keyholder's high-water mark."""
        return self.keyholder / "high-water"

    @property
    def store(self) -> Path:
        """The recorder's directory."""
        return self.path / "store"

    @property
    def database(self) -> Path:
        """The embedded store."""
        return self.store / "store.sqlite"

    @property
    def recorder_metrics(self) -> Path:
        """The recorder's numbers (Prometheus text), a second old at most."""
        return self.store / "recorder.prom"

    @property
    def run(self) -> Path:
        """Sockets and the supervisor's status; remade at each start."""
        return self.path / "run"

    def channel(self, name: str) -> Path:
        """The socket of a channel, in a directory of its own."""
        return self.run / name / "s"

    @property
    def operator_socket(self) -> Path:
        """Where the command line finds the admin process."""
        return self.run / "operator" / "s"

    @property
    def roles(self) -> Path:
        """The supervisor's status file."""
        return self.run / "roles.json"

    def lay_out(self, users: RoleUsers) -> None:
        """Make what is missing and set owners and modes; safe to repeat. Call as root, or as the one user of
        all roles.
        """
        recorder, keyholder = RoleName.RECORDER, RoleName.KEYHOLDER
        for directory in (self.path, self.public, self.run):
            _own(directory, os.getuid(), os.getgid(), 0o755)
        _own(self.keyholder, users.uid(keyholder), users.gid(keyholder), 0o700)
        _own(self.store, users.uid(recorder), users.readers_gid(), 0o2750)
        _own_files(self.keyholder, users.uid(keyholder), users.gid(keyholder))
        _own_files(self.store, users.uid(recorder), users.readers_gid())
        for name, listens, asks in _CHANNELS:
            _own(self.run / name, users.uid(listens), users.gid(asks), 0o750)
        # Operators enter by group or as anybody; SO_PEERCRED decides who is heard.
        (self.run / "operator").chmod(0o755)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a service lives, as whom its roles run, and where its store is."""

    home: ServiceHome
    users: RoleUsers
    database_url: str


_CHANNELS = (
    ("keyholder", RoleName.KEYHOLDER, RoleName.RECORDER),
    ("front", RoleName.RECORDER, RoleName.FRONT),
    ("admin", RoleName.RECORDER, RoleName.ADMIN),
    ("responder", RoleName.RECORDER, RoleName.RESPONDER),
    ("ocsp", RoleName.RESPONDER, RoleName.STATUS),
    ("sandbox", RoleName.SANDBOX, RoleName.FRONT),
    ("operator", RoleName.ADMIN, RoleName.ADMIN),
)


def _own(directory: Path, uid: int, gid: int, mode: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        os.chown(directory, uid, gid)
    directory.chmod(mode)


def _own_files(directory: Path, uid: int, gid: int) -> None:
    if os.getuid() == 0:
        for file in directory.iterdir():
            os.chown(file, uid, gid, follow_symlinks=False)
