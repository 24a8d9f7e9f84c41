"""Opening a service's key-encryption key: 32 random bytes in the store that the configuration names.

Rules:
- Each store has a module of its own, and only the one that was chosen is loaded: a keyholder whose key lies
  in a file needs no passphrase and no keyring (tests/test_keyholder_closure.py counts each choice).
- The key is never guessed: where it is missing, damaged or readable by others, the message says what to do.
- The value is in no message.

Making, restoring and copying it is left to `ostiary.edge.kek_creation`, which no keyholder loads.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from ostiary.edge.kek_spec import (
    FileStore,
    KeyringStore,
    PromptStore,
    parse_kek_hex,
    parse_kek_spec,
    read_key_file,
)

Ask = Callable[[], str]
"""Returns a passphrase, from a terminal or an inherited descriptor."""


def load_kek(spec: str, application: str, service: str, *, directory: Path, ask: Ask | None = None) -> bytes:
    """Return the key's 32 bytes; Misconfigured says what to do where it is missing, damaged or badly kept."""
    match parse_kek_spec(spec, directory=directory):
        case FileStore(path=path):
            return parse_kek_hex(read_key_file(path).strip(), str(path))
        case PromptStore(path=path):
            from ostiary.edge.kek_prompt import load_wrapped  # noqa: PLC0415 - only this store needs it

            return load_wrapped(path, ask, application, service)
        case KeyringStore() as store:
            from ostiary.edge.kek_keyring import load_from_keyring  # noqa: PLC0415 - only this store needs it

            return load_from_keyring(store, application, service)
        case unexpected:
            assert_never(unexpected)
