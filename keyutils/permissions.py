"""Permission masks of keys: four fields of six bits for possessor, owner, group, others (keyctl_setperm(3)).

Rules:
- `AGENT_KEY` is the only mask that the upcall sets. Reading needs possession, which is a link in the reader's
  own session: even root, the owner, cannot read the payload through this interface, but it can revoke,
  invalidate and expire the key.
"""

from __future__ import annotations

from typing import Final

# linux/key.h: KEY_POS_VIEW is VIEW << 24, KEY_USR_VIEW << 16, KEY_GRP_VIEW << 8, KEY_OTH_VIEW << 0
VIEW: Final = 0x01
READ: Final = 0x02
WRITE: Final = 0x04
SEARCH: Final = 0x08
LINK: Final = 0x10
SETATTR: Final = 0x20
ALL: Final = 0x3F


def mask(*, possessor: int, user: int, group: int = 0, other: int = 0) -> int:
    """Combine four fields of six bits into the kernel's mask."""
    for field in (possessor, user, group, other):
        if not 0 <= field <= ALL:
            raise ValueError(f"permission bits {field:#x} are outside 0..{ALL:#x}")
    return possessor << 24 | user << 16 | group << 8 | other


# The possessor cannot update, link or extend the key. The owner, root, needs SETATTR to cut it off: with
# 0x0b000000 even root would be refused.
AGENT_KEY: Final = mask(possessor=VIEW | READ | SEARCH, user=VIEW | SEARCH | SETATTR)  # 0x0b290000
OWNER_KEY: Final = mask(possessor=ALL, user=VIEW)  # 0x3f010000, the kernel's default
