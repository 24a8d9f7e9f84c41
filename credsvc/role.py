"""One process of a credentials service: `python -m credsvc.role ROLE --home DIR`, started by its supervisor
(`credsvc.serve`).

Each role imports what it needs and no more; the table names where. What is told beside the home (the roles'
users, where the front listens, its claim) comes in the environment. The sandbox is not here: its zygote
starts without an environment of ours.
"""

from __future__ import annotations

from typing import Final

from ostiary.edge.role import be_role

ROLES: Final = {
    "keyholder": "credsvc.keyholder.role",
    "recorder": "credsvc.recorder.role",
    "admin": "credsvc.admin.role",
    "front": "credsvc.front.role",
}

if __name__ == "__main__":
    be_role("credsvc", ROLES)
