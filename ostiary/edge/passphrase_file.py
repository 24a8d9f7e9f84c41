"""The passphrase of a `prompt` key-encryption key at a start, when nobody sits there to be asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from ostiary.edge.files import read_private
from ostiary.errors import Misconfigured

FILE_VARIABLE: Final = "OSTIARY_PASSPHRASE_FILE"
_MAX_FILE_BYTES: Final = 4096


def passphrase_from_file() -> str:
    """The content of the 0600 file that the service manager provides (systemd: LoadCredential=);
    Misconfigured without one.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named is None:
        raise Misconfigured(
            f"the key-encryption key is under a passphrase: name a file with it in {FILE_VARIABLE}"
        )
    content = read_private(Path(named), limit_bytes=_MAX_FILE_BYTES)
    return content.decode("utf-8", "surrogateescape").rstrip("\n")
