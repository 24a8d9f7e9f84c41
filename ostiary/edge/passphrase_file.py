"""The passphrase of a `prompt` key-encryption key at a start, when there is nobody to type it."""

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
    Misconfigured where none is named.
    """
    named = os.environ.get(FILE_VARIABLE)
    if named is None:
        raise Misconfigured(
            f"the key-encryption key needs a passphrase: name a file that holds it in {FILE_VARIABLE}"
        )
    # A file and not the variable itself: /proc/PID/environ shows a process's variables to others of its user,
    # and children inherit them.
    content = read_private(Path(named), limit_bytes=_MAX_FILE_BYTES)
    # The newline that an editor or echo puts behind it is none of the passphrase.
    return content.decode("utf-8", "surrogateescape").rstrip("\n")
