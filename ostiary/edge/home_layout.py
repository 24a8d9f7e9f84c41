"""Who may enter which place of a service's home; laid out by whoever starts the service, before any role.

Rules:
- A directory of a channel belongs to the role that listens there; its group is the role that asks. Nobody
  else may enter.
- The store belongs to the recorder; its readers share a group and cannot write.
"""

from __future__ import annotations

import os
from pathlib import Path

from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers

# Channel, who listens, who asks. With the group of whoever asks and mode 0750, nobody else even finds the
# socket; SO_PEERCRED is the second check.
_CHANNELS = (
    ("keyholder", RoleName.KEYHOLDER, RoleName.RECORDER),
    ("front", RoleName.RECORDER, RoleName.FRONT),
    ("admin", RoleName.RECORDER, RoleName.ADMIN),
    ("responder", RoleName.RECORDER, RoleName.RESPONDER),
    ("ocsp", RoleName.RESPONDER, RoleName.STATUS),
    ("sandbox", RoleName.SANDBOX, RoleName.FRONT),
    ("operator", RoleName.ADMIN, RoleName.ADMIN),
)


def lay_out(home: ServiceHome, users: RoleUsers) -> None:
    """Make what is missing and set owners and modes; safe to repeat. Call as root, or as the one user of
    all roles.
    """
    recorder, keyholder = RoleName.RECORDER, RoleName.KEYHOLDER
    for directory in (home.path, home.public, home.run):
        _own(directory, os.getuid(), os.getgid(), 0o755)
    _own(home.keyholder, users.uid(keyholder), users.gid(keyholder), 0o700)
    # Set-group-ID: SQLite's -wal and -shm, which it makes anew, get the readers' group too.
    _own(home.store, users.uid(recorder), users.readers_gid(), 0o2750)
    _own_files(home.keyholder, users.uid(keyholder), users.gid(keyholder))
    _own_files(home.store, users.uid(recorder), users.readers_gid())
    for name, listens, asks in _CHANNELS:
        _own(home.run / name, users.uid(listens), users.gid(asks), 0o750)
    # Operators are of no fixed group: anybody may enter, and SO_PEERCRED decides whom the admin process
    # answers.
    (home.run / "operator").chmod(0o755)


def _own(directory: Path, uid: int, gid: int, mode: int) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    if os.getuid() == 0:
        os.chown(directory, uid, gid)
    directory.chmod(mode)


def _own_files(directory: Path, uid: int, gid: int) -> None:
    if os.getuid() == 0:
        for file in directory.iterdir():
            # Not through a link: a role that was broken into could point one at a file of root's.
            os.chown(file, uid, gid, follow_symlinks=False)
