"""A secret comes from standard input or a descriptor; one in the arguments is refused and not repeated."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ostiary.cli.secret_argument import MAX_SECRET_BYTES, SECRET, prompt_secret
from ostiary.secret import Secret


@click.command()
@click.argument("token", type=SECRET)
def show(token: Secret) -> None:
    click.echo(f"{len(token.reveal())} bytes, {token!r}")


@click.command()
def ask() -> None:
    click.echo(f"{len(prompt_secret('password').reveal())} bytes")


def _run(
    argument: str, stdin: bytes = b"", descriptors: tuple[int, ...] = ()
) -> subprocess.CompletedProcess[str]:
    here = str(Path(__file__).parent)
    code = f"import sys; sys.path.insert(0, {here!r}); from test_secret_argument import show; show()"
    return subprocess.run(
        [sys.executable, "-c", code, argument],
        input=stdin.decode(),
        pass_fds=descriptors,
        capture_output=True,
        text=True,
        check=False,
    )


def test_from_standard_input_without_its_newline() -> None:
    done = _run("-", b"hunter2\n")
    assert (done.returncode, done.stdout) == (0, "7 bytes, <secret>\n")


def test_from_a_descriptor() -> None:
    read, write = os.pipe()
    os.write(write, b"hunter2\n\n")
    os.close(write)
    done = _run(f"fd:{read}", descriptors=(read,))
    os.close(read)
    assert (done.returncode, done.stdout) == (0, "8 bytes, <secret>\n")


@pytest.mark.parametrize("argument", ["hunter2", "fd:", "fd:-1", "fd:x", "fd:٣", "fd:99999", "@file", ""])
def test_anything_else_is_a_usage_error_that_does_not_repeat_it(argument: str) -> None:
    result = CliRunner().invoke(show, [argument])
    assert result.exit_code == 2
    assert "every user can read the argument list" in result.output
    assert not argument or argument not in result.output.replace("fd:N", "")


def test_a_closed_descriptor_is_named() -> None:
    result = CliRunner().invoke(show, ["fd:999"])
    assert result.exit_code == 2
    assert "descriptor 999: Bad file descriptor" in result.output


@pytest.mark.parametrize(
    ("content", "problem"), [(b"", "empty"), (b"\n", "empty"), (b"x" * (MAX_SECRET_BYTES + 1), "longer than")]
)
def test_empty_and_oversized_secrets_are_refused(content: bytes, problem: str) -> None:
    done = _run("-", content)
    assert done.returncode == 2
    assert problem in done.stderr


def test_a_prompt_reads_one_line_when_there_is_no_terminal() -> None:
    assert CliRunner().invoke(ask, input="hunter2\nmore\n").output == "7 bytes\n"


def test_an_empty_line_is_no_secret() -> None:
    result = CliRunner().invoke(ask, input="\n")
    assert result.exit_code == 2
    assert "password: the secret is empty" in result.output
