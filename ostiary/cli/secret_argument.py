"""Secrets on the command line: `-` (standard input) or `fd:N` (an open descriptor), never the secret itself.

Rules:
- Every user of the machine can read the argument vector (/proc/PID/cmdline), so any other value is a usage
  error. Its message does not repeat the value, which may be a secret that somebody pasted.
- One trailing newline is not part of the secret. An empty secret, or one above 64 KiB, is refused.
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
    "give '-' (standard input) or 'fd:N' (an open descriptor): every user can read the argument list"
)


class SecretArgument(click.ParamType[Secret]):
    """A click parameter type that reads a `Secret` from the descriptor that the argument names."""

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
    """Ask for a secret without echo on a terminal, else read one line of standard input.

    A usage error if it is empty.
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
    """Return the descriptor that `-` or `fd:N` names; None for any other text."""
    if text == "-":
        return 0
    if isinstance(text, str) and text.startswith("fd:"):
        digits = text.removeprefix("fd:")
        return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) <= 4 else None
    return None


def _read_all(descriptor: int) -> bytes:
    """Read up to end of file; closes the descriptor unless it is one of the standard ones."""
    chunks: list[bytes] = []
    # One byte above the limit, so that `_problem` sees that it is too long, and one for the newline.
    wanted = MAX_SECRET_BYTES + 2
    try:
        while wanted > 0 and (chunk := os.read(descriptor, wanted)):
            chunks.append(chunk)
            wanted -= len(chunk)
    finally:
        # A process that this command starts must not inherit it.
        if descriptor > 2:
            os.close(descriptor)
    return b"".join(chunks).removesuffix(b"\n")


def _problem(content: bytes) -> str | None:
    if not content:
        return "the secret is empty"
    if len(content) > MAX_SECRET_BYTES:
        return f"the secret is longer than {MAX_SECRET_BYTES} bytes"
    return None
