"""The terms by which entries are found (`serial:...`, `agent:...`), and how the index keeps them.

Rules:
- The index keeps eight bytes of a term's SHA-256. A whole term takes 50 bytes with its place in the tree, and
  an entry has five.
- Two terms may share a digest, by chance once in 10^19 pairs or because somebody searched for it: whoever
  reads by the index looks at each entry as well (`is_about`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_INDEXED: Final = frozenset(
    {"serial", "agent", "token", "credential", "module", "previous", "parent", "ancestor"}
)
"""The members of an entry, or of the certificate in it, by which `audit` finds entries."""


def terms_of(entry: Mapping[str, Any]) -> set[str]:
    """The terms (`serial:...`, `agent:...`) by which an entry is found, wherever in it they stand."""
    terms = set()
    for name, member in entry.items():
        if isinstance(member, dict):
            terms |= terms_of(member)
        elif name in _INDEXED and isinstance(member, str) and member:
            terms.add(f"{name}:{member}")
    return terms


def term_digest(term: str) -> int:
    """What the index keeps of a term: a signed number of 64 bits, which both databases have as a column."""
    return int.from_bytes(hashlib.sha256(term.encode()).digest()[:8], "big", signed=True)


def is_about(entry: bytes, terms: frozenset[str]) -> bool:
    """Whether an entry is found by any of these terms."""
    return not terms.isdisjoint(terms_of(msgspec.json.decode(entry)))
