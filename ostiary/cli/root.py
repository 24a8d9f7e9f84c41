"""The command `ostiary`: a table of command groups, and the one place where errors become exit codes.

Rules:
- Names and exit codes are a contract: 0 done, 1 refused or failed, 2 wrong usage.
- A group is imported, by name, when somebody calls it. `ostiary --help` imports none and starts in less than
  0.1 s; a group whose extra is not installed is an error only when somebody calls it.
- A command raises `OstiaryError`; `ostiary.cli.output` decides what the caller sees of it.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import click

from ostiary.cli import output
from ostiary.cli.invocation import Invocation, everywhere_options
from ostiary.errors import Misconfigured, OstiaryError


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One row of the table: the click command (`module:attribute`) and its line in the help."""

    target: str
    help: str


# In the order of the help. Commands of a service live with it (ca/commands/, ...); naming them here as text
# keeps `ostiary` from importing a service. A new group is one row here and one file.
GROUPS: Final = {
    "demo": Entry(
        target="ostiary.cli.demo:demo", help="The main job with all parts on this machine, step by step."
    ),
    "doctor": Entry(
        target="ostiary.cli.doctor:doctor", help="This machine's abilities, and what replaces those it lacks."
    ),
    "ca": Entry(
        target="ca.commands.ca:ca", help="The certificate authority: init, serve, tokens, certificates."
    ),
    "certmgr": Entry(target="certmgr.commands.certmgr:certmgr", help="The certificate manager of a node."),
    "agent": Entry(
        target="certmgr.commands.agent:agent", help="Ask for, claim and use the certificate of an agent."
    ),
    "credsvc": Entry(target="credsvc.commands.credsvc:credsvc", help="The credentials service: init, serve."),
    "credential": Entry(
        target="credsvc.commands.credential:credential", help="Put, list, rotate and delete credentials."
    ),
    "module": Entry(
        target="credsvc.commands.module:module", help="Credential modules: new, load, approve, selftest."
    ),
    "sign": Entry(
        target="credsvc.commands.sign:sign", help="Apply an operation of a credential to a request."
    ),
    "policy": Entry(target="credsvc.commands.policy:policy", help="Validate and explain policies."),
    "audit": Entry(target="ostiary.cli.audit:audit", help="List, prove and verify the ledger."),
}


class LazyGroup(click.Group):
    """A click group that has its commands in a table and imports one when somebody calls it."""

    def __init__(self, *args: Any, table: dict[str, Entry] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table = table or {}

    # The unused arguments below are click's signatures.

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        entry = self.table.get(cmd_name)
        return _load(cmd_name, entry) if entry is not None else None

    # click's own method would load every command to ask it for its short help.
    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.help) for name, entry in self.table.items()])


def _load(name: str, entry: Entry) -> click.Command:
    module_name, _, attribute = entry.target.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        # Either the command's own module is missing, or the command is here and a package that it imports is
        # not.
        if error.name != module_name:
            raise Misconfigured(
                f"'ostiary {name}' needs the Python package {error.name!r}; install it"
            ) from error
        raise Misconfigured(f"'ostiary {name}' is not part of this installation") from error
    command = getattr(module, attribute)
    if not isinstance(command, click.Command):
        raise AssertionError(f"{entry.target} is not a click command")
    _add_everywhere(command)
    return command


def _add_everywhere(command: click.Command) -> None:
    """Give a command and all its subcommands --home and --json, unless they have them."""
    taken = {parameter.name for parameter in command.params}
    command.params.extend(option for option in everywhere_options() if option.name not in taken)
    if isinstance(command, click.Group):
        for child in command.commands.values():
            _add_everywhere(child)


@click.group(cls=LazyGroup, table=GROUPS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="ostiary", message="%(prog)s %(version)s")
def root() -> None:
    """Certificates for agents, signatures without secrets, and a ledger that proves both."""


_add_everywhere(root)


def run(argv: Sequence[str]) -> int:
    """Run one command line (without the program's name) and return its exit code."""
    invocation = Invocation(environ=os.environ)
    try:
        # Not standalone: click would print errors and exit by itself, with codes of its own.
        result = root.main(args=list(argv), prog_name="ostiary", standalone_mode=False, obj=invocation)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        output.report_usage(error, as_json=invocation.json)
        return 2 if isinstance(error, click.UsageError) else 1
    except OstiaryError as error:
        output.report(error, as_json=invocation.json)
        return 1
    except (click.Abort, KeyboardInterrupt):
        click.echo("stopped", err=True)
        return 1
    except BrokenPipeError:
        # The reader of our output is gone (`ostiary audit list | head`). At exit Python flushes stdout once
        # more and would complain again, so it gets a descriptor that takes everything (docs.python.org,
        # signal, "Note on SIGPIPE").
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    # Outside standalone mode click returns the code of ctx.exit(), or what the command returned.
    return result if isinstance(result, int) else 0


def main() -> NoReturn:
    """Entry point of the command `ostiary`."""
    sys.exit(run(sys.argv[1:]))
