"""Names that clients and operators give: of credentials, and of a module's operations.

- A credential's name is `[a-z0-9][a-z0-9._-]*`, at most 100 characters.
- An operation's is as in a manifest: `[a-z][a-z0-9_]*`, at most 63 characters.
"""

from __future__ import annotations

import re
from typing import Final, NewType

from ostiary.errors import BadInput

CredentialName = NewType("CredentialName", str)
OperationName = NewType("OperationName", str)

_CREDENTIAL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
_OPERATION: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


def parse_credential(text: str) -> CredentialName:
    """A credential's name; BadInput names `credential`."""
    if not _CREDENTIAL.fullmatch(text):
        raise BadInput(
            f"credential: {text[:128]!r} is not lower-case letters, digits, '.', '_', '-', at most 100",
            field="credential",
        )
    return CredentialName(text)


def parse_operation(text: str) -> OperationName:
    """An operation's name; BadInput names `operation`."""
    if not _OPERATION.fullmatch(text):
        raise BadInput(
            f"operation: {text[:128]!r} is not lower-case letters, digits and '_', at most 63",
            field="operation",
        )
    return OperationName(text)
