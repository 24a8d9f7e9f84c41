"""A service's home on disk: one property for each path, and who may enter it.

Rules:
- The role that listens on a channel owns its directory; the directory's group is the role that connects.
  Nobody else may enter.
- The recorder owns the store; its readers share a group and cannot write.
- `public` holds what anybody may have. No secret lies anywhere unsealed.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from ostiary.edge.users import RoleName, RoleUsers


@dataclass(frozen=True, slots=True)
class ServiceHome:
    """The paths of one service below its home."""

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
        """The size and root of the newest tree that the keyholder signed."""
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
        """The recorder's metrics (Prometheus text), at most a second old."""
        return self.store / "recorder.prom"

    @property
    def run(self) -> Path:
        """Sockets and the supervisor's status; made anew at each start."""
        return self.path / "run"

    def channel(self, name: str) -> Path:
        """The socket of a channel, in a directory of its own."""
        # One letter, because a UNIX socket's path has at most 107 bytes (unix(7)) and homes can be deep.
        return self.run / name / "s"

    @property
    def operator_socket(self) -> Path:
        """The socket on which the admin process serves the command line."""
        return self.run / "operator" / "s"

    @property
    def roles(self) -> Path:
        """The supervisor's status file."""
        return self.run / "roles.json"

    def lay_out(self, users: RoleUsers) -> None:
        """Create missing directories and set owners and modes; idempotent.

        Call as root, or as the one user that all roles share.
        """
        recorder, keyholder = RoleName.RECORDER, RoleName.KEYHOLDER
        for directory in (self.path, self.public, self.run):
            _own(directory, os.getuid(), os.getgid(), 0o755)
        _own(self.keyholder, users.uid(keyholder), users.gid(keyholder), 0o700)
        # Set-group-ID: new files of the database (journal, shared memory) get the readers' group by
        # themselves (inode(7)), so the readers can open them.
        _own(self.store, users.uid(recorder), users.readers_gid(), 0o2750)
        _own_files(self.keyholder, users.uid(keyholder), users.gid(keyholder))
        _own_files(self.store, users.uid(recorder), users.readers_gid())
        for name, listens, asks in _CHANNELS:
            _own(self.run / name, users.uid(listens), users.gid(asks), 0o750)
        # A directory's mode can't name the operators, who are root, the home's owner and a configured group:
        # all may enter, and the admin process admits by SO_PEERCRED.
        (self.run / "operator").chmod(0o755)


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A service's home, the users of its roles, and the URL of its store."""

    home: ServiceHome
    users: RoleUsers
    database_url: str


# Channel, the role that listens (owner), the role that connects (group). A CA has no sandbox and a
# credentials service no responder; their directories stay empty, which costs less than a second table.
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
            # A role owns this directory and root walks it: a link that the role left must not lend it a file.
            os.chown(file, uid, gid, follow_symlinks=False)
