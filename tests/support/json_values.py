"""JSON values of every shape that an entry may hold, for properties of canonical JSON."""

from __future__ import annotations

from hypothesis import strategies as st

from ostiary.ledger.canonical import JSON, MAX_INTEGER

_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
_SCALARS = st.none() | st.booleans() | st.integers(-MAX_INTEGER, MAX_INTEGER) | _TEXT
VALUES: st.SearchStrategy[JSON] = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=12,
)
