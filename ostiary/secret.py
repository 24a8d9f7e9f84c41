"""Bytes that must not be seen: the one type in which a secret travels inside a process.

Rules:
- `repr`, `str` and `format` show a constant; pickling and copying are refused; there is no hash and no order.
- Equality takes constant time in the content (not in the length).
- `reveal()` is the only way to the bytes, so that every use can be found with grep.

What it does not do: wipe memory. CPython keeps copies that nobody can reach; docs/security.md says what that
means.
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, SupportsIndex, final

_PLACEHOLDER: Final = "<secret>"


@final
class Secret:
    """Secret bytes; see the rules above."""

    __slots__ = ("__value",)

    def __init__(self, value: bytes) -> None:
        self.__value = value

    def reveal(self) -> bytes:
        """Return the bytes themselves; the caller now answers for them."""
        return self.__value

    def __repr__(self) -> str:
        return _PLACEHOLDER

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]  # a hash in a table would be a fast function of the secret

    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        message = "a secret is neither pickled nor copied"
        raise TypeError(message)
