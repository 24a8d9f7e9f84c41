"""The one error that the ledger adds: evidence that does not prove what it claims.

Rules:
- Text that cannot be read is `BadInput`; text that can be read and is false is `NotProven`.
- Whoever catches it decides what it means: a bad proof from a caller is a refusal, a bad tree of a service is
  an alarm.
"""

from __future__ import annotations

from ostiary.errors import BadInput


class NotProven(BadInput):
    """A proof, a signature or a log does not match what it must match.

    `first_index` and `last_index` bound the entries at fault, both inclusive, where that is known.
    """

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        first_index: int | None = None,
        last_index: int | None = None,
    ) -> None:
        super().__init__(message, field=field)
        self.first_index = first_index
        self.last_index = last_index
