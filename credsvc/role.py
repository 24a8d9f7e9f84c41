"""One process of a credentials service: `python -m credsvc.role ROLE --home DIR`, started by its supervisor
(`credsvc.serve`).

Each role imports what it needs and no more; the table says where it is. What a role must know beside the home
(the roles' users, where the front listens, its claim) comes in the environment. The sandbox is not here: its
zygote is another program, which starts without this environment (`credsvc.sandbox.client.control`).
"""

from __future__ import annotations

from typing import Final

from ostiary.edge.role import be_role

# Names, not modules: a keyholder's process must not even load the others (docs/architecture.md, "What a
# keyholder loads").
ROLES: Final = {
    "keyholder": "credsvc.keyholder.role",
    "recorder": "credsvc.recorder.role",
    "admin": "credsvc.admin.role",
    "front": "credsvc.front.role",
}

if __name__ == "__main__":
    be_role("credsvc", ROLES)
