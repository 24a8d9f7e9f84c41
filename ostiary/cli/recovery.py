"""`serve --recovery`: bring a key-encryption key back from its recovery copy, before the service starts.

A store that forgets (the kernel's keyring after a reboot) is filled again; one that holds the key is left
alone; one that holds another key is refused.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ostiary.cli import output
from ostiary.cli.secret_argument import SECRET, prompt_secret
from ostiary.secret import Secret

CommandT = TypeVar("CommandT", bound=Callable[..., Any])


def recovery_options(command: CommandT) -> CommandT:
    """The two options, the same for every service."""
    named = click.option(
        "--recovery",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Bring the key-encryption key back from this copy first.",
    )
    secret = click.option("--recovery-passphrase", type=SECRET, help="Of the copy; else asked for.")
    return named(secret(command))


def recover(
    spec: str, application: str, service: str, *, directory: Path, copy: Path, passphrase: Secret | None
) -> None:
    """Fill the store that `spec` names; Conflict, Unauthenticated and BadInput as in ostiary.edge.kek."""
    from ostiary.edge.kek import RecoveryCopy, restore_kek
    from ostiary.edge.passphrase_file import passphrase_from_file

    def ask() -> str:
        return (passphrase or prompt_secret("passphrase of the recovery copy")).reveal().decode()

    wrapped = RecoveryCopy(path=copy, ask=ask)
    restore_kek(spec, application, service, directory=directory, recovery=wrapped, ask=passphrase_from_file)
    output.note(f"the key-encryption key is in '{spec}'")
