"""Permission masks of keys: four fields of six bits for possessor, owner, group, others (keyctl_setperm(3)).

Rules:
- `AGENT_KEY` is the only mask our upcall sets. Reading needs possession, that is a link in the reader's own
  session: not even root reads the payload through this interface, but as owner it can revoke, invalidate and
  expire the key.
"""

from __future__ import annotations

from typing import Final

VIEW: Final = 0x01
READ: Final = 0x02
WRITE: Final = 0x04
SEARCH: Final = 0x08
LINK: Final = 0x10
SETATTR: Final = 0x20
ALL: Final = 0x3F


def mask(*, possessor: int, user: int, group: int = 0, other: int = 0) -> int:
    """Join four fields of six bits to the kernel's mask."""
    for field in (possessor, user, group, other):
        if not 0 <= field <= ALL:
            raise ValueError(f"permission bits {field:#x} are outside 0..{ALL:#x}")
    return possessor << 24 | user << 16 | group << 8 | other


AGENT_KEY: Final = mask(possessor=VIEW | READ | SEARCH, user=VIEW | SEARCH | SETATTR)  # 0x0b290000
OWNER_KEY: Final = mask(possessor=ALL, user=VIEW)  # 0x3f010000, what the kernel gives by itself
