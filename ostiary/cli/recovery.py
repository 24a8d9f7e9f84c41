"""`serve --recovery`: restores a key-encryption key from its recovery copy before the service starts.

A store that forgot the key (the kernel's keyring after a reboot) gets it back; a store that has the key stays
as it is; a store that has another key is refused.
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
    """Give a command the two options, the same for every service."""
    named = click.option(
        "--recovery",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="First restore the key-encryption key from this copy.",
    )
    secret = click.option(
        "--recovery-passphrase", type=SECRET, help="The copy's passphrase [default: ask for it]."
    )
    return named(secret(command))


def recover(
    spec: str, application: str, service: str, *, directory: Path, copy: Path, passphrase: Secret | None
) -> None:
    """Restore the key into the store that `spec` names; raises as `ostiary.edge.kek_creation.restore_kek`."""
    from ostiary.edge.kek_creation import RecoveryCopy, restore_kek
    from ostiary.edge.passphrase_file import passphrase_from_file

    # Also where the store has a key: without opening the copy nobody can tell whether it is the same one.
    def ask() -> str:
        return (passphrase or prompt_secret("passphrase of the recovery copy")).reveal().decode()

    wrapped = RecoveryCopy(path=copy, ask=ask)
    restore_kek(spec, application, service, directory=directory, recovery=wrapped, ask=passphrase_from_file)
    output.note(f"the key-encryption key is in '{spec}'")
