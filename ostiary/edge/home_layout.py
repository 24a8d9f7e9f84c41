"""Who may enter which place of a service's home; laid out by whoever starts the service, before any role.

Rules:
- The role that listens on a channel owns its directory; the directory's group is the role that connects.
  Nobody else may enter.
- The recorder owns the store; its readers share a group and cannot write.
"""

from __future__ import annotations

import os
from pathlib import Path

from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers

# Channel, the role that listens (owner), the role that connects (group): with mode 0750 nobody else even
# finds the socket; SO_PEERCRED is the second check. A CA has no sandbox and a credentials service no
# responder; their directories stay empty, which costs less than a second table.
_CHANNELS = (
    ("keyholder", RoleName.KEYHOLDER, RoleName.RECORDER),
    ("front", RoleName.RECORDER, RoleName.FRONT),
    ("admin", RoleName.RECORDER, RoleName.ADMIN),
    ("responder", RoleName.RECORDER, RoleName.RESPONDER),
    ("ocsp", RoleName.RESPONDER, RoleName.STATUS),
    ("staple", RoleName.RESPONDER, RoleName.FRONT),
    ("sandbox", RoleName.SANDBOX, RoleName.FRONT),
    ("operator", RoleName.ADMIN, RoleName.ADMIN),
)


def lay_out(home: ServiceHome, users: RoleUsers) -> None:
    """Create missing directories and set owners and modes; idempotent.

    Call as root, or as the one user that all roles share.
    """
    recorder, keyholder = RoleName.RECORDER, RoleName.KEYHOLDER
    for directory in (home.path, home.public, home.run):
        _own(directory, os.getuid(), os.getgid(), 0o755)
    _own(home.keyholder, users.uid(keyholder), users.gid(keyholder), 0o700)
    # Set-group-ID: new files of the database (journal, shared memory) get the readers' group by themselves
    # (inode(7)), so the readers can open them.
    _own(home.store, users.uid(recorder), users.readers_gid(), 0o2750)
    _own_files(home.keyholder, users.uid(keyholder), users.gid(keyholder))
    _own_files(home.store, users.uid(recorder), users.readers_gid())
    for name, listens, asks in _CHANNELS:
        _own(home.run / name, users.uid(listens), users.gid(asks), 0o750)
    # A directory's mode can't name the operators, who are root, the home's owner and a configured group: all
    # may enter, and the admin process admits by SO_PEERCRED.
    (home.run / "operator").chmod(0o755)


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
