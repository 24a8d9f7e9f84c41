"""One process of a CA: `python -m ca.role ROLE --home DIR`, started by its supervisor (`ca.serve`).

Each role imports what it needs and no more: a thief in one finds no code of another, and a test counts what
the keyholder loads. The table names each role's module. The roles' users and the front's address come in the
environment.
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
