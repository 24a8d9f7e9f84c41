"""The one type in which a secret travels inside a process.

Rules:
- `repr`, `str` and `format` show a constant; pickling and copying raise; there is no hash and no order.
- Equality takes constant time in the content (not in the length).
- `reveal()` is the only way to the bytes, so grep finds every use.

It does not wipe memory: CPython leaves copies that no code can reach. docs/security.md says what follows.
"""

from __future__ import annotations

import hmac
from typing import Final, NoReturn, SupportsIndex, final

_PLACEHOLDER: Final = "<secret>"


@final
class Secret:
    """Secret bytes; see the rules above."""

    # No __dict__: vars(), and a debugger or error reporter that walks it, find nothing to print.
    __slots__ = ("__value",)

    def __init__(self, value: bytes) -> None:
        self.__value = value

    def reveal(self) -> bytes:
        """Return the bytes; from here on the caller is responsible for them."""
        return self.__value

    def __repr__(self) -> str:
        return _PLACEHOLDER

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self.__value, other.__value)

    __hash__ = None  # type: ignore[assignment]  # a hash in a table would be a fast function of the secret

    # copy, deepcopy and pickle (and with it multiprocessing) all ask this method first.
    def __reduce_ex__(self, protocol: SupportsIndex) -> NoReturn:
        message = "a secret can be neither pickled nor copied"
        raise TypeError(message)
