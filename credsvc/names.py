"""The names that a caller or an operator writes: credentials and their operations. Pure.

Both stand in paths of the HTTP interface and in policies, so they need no escaping in either; a module's name
is the manifest's to check (`credsvc.formula.manifest`).
"""

from __future__ import annotations

import re
from typing import Final, NewType

from ostiary.errors import BadInput

CredentialName = NewType("CredentialName", str)
OperationName = NewType("OperationName", str)

# The longest name fits the store's column (`credsvc.store.tables`: 100 characters).
_CREDENTIAL: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,99}")
# What a manifest may call an operation: it is also the name of a Python function in the module.
_OPERATION: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")
# How much of a wrong name the answer quotes: enough to recognise it, not a megabyte of it.
_QUOTED_CHARS: Final = 128


def parse_credential(text: str) -> CredentialName:
    """A credential's name; BadInput names `credential`."""
    if not _CREDENTIAL.fullmatch(text):
        raise BadInput(
            f"credential: {text[:_QUOTED_CHARS]!r} is not a name of at most 100 lower-case letters, digits, "
            "'.', '_' and '-' that begins with a letter or digit",
            field="credential",
        )
    return CredentialName(text)


def parse_operation(text: str) -> OperationName:
    """An operation's name; BadInput names `operation`."""
    if not _OPERATION.fullmatch(text):
        raise BadInput(
            f"operation: {text[:_QUOTED_CHARS]!r} is not a name of at most 63 lower-case letters, digits and "
            "'_' that begins with a letter",
            field="operation",
        )
    return OperationName(text)
