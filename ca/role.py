"""One process of a CA: `python -m ca.role ROLE --home DIR`, started by its supervisor (`ca.serve`).

Each role imports what it needs and no more; the table names where. What is told beside the home (the roles'
users, where the front listens) comes in the environment.
"""

from __future__ import annotations

from typing import Final

from ostiary.edge.role import be_role

ROLES: Final = {
    "keyholder": "ca.keyholder.role",
    "recorder": "ca.recorder.role",
    "responder": "ca.responder.role",
    "admin": "ca.admin.role",
    "front": "ca.front.role",
    "status": "ca.status.role",
}

if __name__ == "__main__":
    be_role("ca", ROLES)
