"""The `prompt` store of a key-encryption key: a file that a passphrase opens (ostiary/edge/passphrase.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ostiary.edge.kek_spec import read_key_file
from ostiary.edge.passphrase import unwrap
from ostiary.errors import Misconfigured


def load_wrapped(path: Path, ask: Callable[[], str] | None, application: str, service: str) -> bytes:
    """The key; BadInput where the file is another service's, Unauthenticated for a wrong passphrase."""
    return unwrap(read_key_file(path), asked(ask), application=application, service=service)


def asked(ask: Callable[[], str] | None) -> str:
    """The passphrase; Misconfigured where there is nobody to ask."""
    if ask is None:
        raise Misconfigured(
            "the key-encryption key needs a passphrase, and there is nobody to ask for it", field="kek"
        )
    return ask()
