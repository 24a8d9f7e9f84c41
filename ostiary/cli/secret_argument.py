"""Secrets on the command line: `-` (standard input) or `fd:N` (an open descriptor), never the secret itself.

Rules:
- The argument vector is readable by every user of the machine (/proc/PID/cmdline), so anything else is a
  usage error; its message does not repeat the value, which may be the secret that somebody pasted.
- One trailing newline is not part of the secret. Empty secrets and those over 64 KiB are refused.
"""

from __future__ import annotations

import os
import sys
from getpass import getpass
from typing import Any, Final

import click

from ostiary.secret import Secret

MAX_SECRET_BYTES: Final = 64 * 1024
_WANTED: Final = (
    "give '-' (standard input) or 'fd:N' (an open descriptor); a secret never stands in the argument list"
)


class SecretArgument(click.ParamType[Secret]):
    """A click parameter type: reads the secret from where the argument points, and gives a `Secret`."""

    name = "-|fd:N"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Secret:
        if isinstance(value, Secret):
            return value
        descriptor = _descriptor(value)
        if descriptor is None:
            self.fail(_WANTED, param, ctx)
        try:
            content = _read_all(descriptor)
        except OSError as error:
            self.fail(f"can't read the secret from descriptor {descriptor}: {error.strerror}", param, ctx)
        problem = _problem(content)
        if problem is not None:
            self.fail(problem, param, ctx)
        return Secret(content)


SECRET: Final = SecretArgument()


def prompt_secret(label: str) -> Secret:
    """A secret asked for without echo on a terminal, or one line of standard input; usage error when it is
    empty.
    """
    if sys.stdin.isatty():
        content = getpass(f"{label}: ").encode()
    else:
        content = sys.stdin.buffer.readline(MAX_SECRET_BYTES + 2).removesuffix(b"\n")
    problem = _problem(content)
    if problem is not None:
        raise click.UsageError(f"{label}: {problem}")
    return Secret(content)


def _descriptor(text: object) -> int | None:
    """The descriptor that `-` or `fd:N` names; None for anything else."""
    if text == "-":
        return 0
    if isinstance(text, str) and text.startswith("fd:"):
        digits = text.removeprefix("fd:")
        return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 4 else None
    return None


def _read_all(descriptor: int) -> bytes:
    """Everything up to end of file, one byte beyond the limit at most; closes what is not standard input."""
    chunks: list[bytes] = []
    wanted = MAX_SECRET_BYTES + 2
    try:
        while wanted > 0 and (chunk := os.read(descriptor, wanted)):
            chunks.append(chunk)
            wanted -= len(chunk)
    finally:
        if descriptor > 2:  # a child must not find it open
            os.close(descriptor)
    return b"".join(chunks).removesuffix(b"\n")


def _problem(content: bytes) -> str | None:
    if not content:
        return "the secret is empty"
    if len(content) > MAX_SECRET_BYTES:
        return f"the secret is longer than {MAX_SECRET_BYTES} bytes"
    return None
