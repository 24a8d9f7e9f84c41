"""`ostiary certmgr`: run a node's certificate manager, and show its agents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from certmgr.commands.manager_errors import command_error
from ostiary.cli import output
from ostiary.cli.manager_socket import manager_socket, socket_option

_COLUMNS = ("agent", "subsystem", "state", "generation", "not_after", "scope")


@click.group()
def certmgr() -> None:
    """The certificate manager of this node: obtains agents' certificates and delivers them."""


@certmgr.command()
@click.option(
    "--bootstrap",
    metavar="FILE|-",
    required=True,
    help="The node's bootstrap document; - reads standard input.",
)
@socket_option
@click.option(
    "--listen",
    metavar="HOST:PORT",
    default="0.0.0.0:7443",
    show_default=True,
    help="Where the manager listens; the authority dials back to it.",
)
def serve(bootstrap: str, socket_path: Path | None, listen: str) -> None:
    """Run the manager until SIGTERM; its records stay in the kernel for its next start."""
    from certmgr.app import serve as run
    from certmgr.bootstrap import load_bootstrap
    from ostiary.address import parse_address
    from ostiary.edge import log

    document = load_bootstrap(bootstrap)
    # `:PORT` is every address of this host: the authority dials back from outside.
    listen = f"0.0.0.0{listen}" if listen.startswith(":") else listen  # noqa: S104
    address = parse_address(listen, field="listen")
    path = manager_socket(socket_path)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    log.configure("certmgr")
    run(document, socket_path=path, listen=address)


@certmgr.command()
@socket_option
def status(socket_path: Path | None) -> None:
    """Show the manager's agents, and what this machine lacks to keep and deliver them."""
    from certmgr.client import ManagerError, call

    try:
        found = call(manager_socket(socket_path), "GET", "/v1/status")
    except ManagerError as exc:
        raise command_error(exc) from exc
    output.emit(found, human=output.table([_line(row) for row in found["agents"]], _COLUMNS))
    for ledger in found["ledgers"]:
        if ledger["alarm"]:
            output.note(
                f"ALARM: the ledger '{ledger['origin']}' contradicts its last checkpoint (--json shows both)"
            )
    if found["lacks"]:
        output.note(f"agents will not survive a restart of the manager: {found['lacks']}")
    if found["upcall_lacks"]:
        output.note(f"request_key(2) does not reach this manager: {found['upcall_lacks']}")


def _line(row: dict[str, Any]) -> dict[str, Any]:
    scope = row["scope"] or {}
    detail = scope.get("path") or scope.get("pid") or scope.get("anchor") or ""
    return row | {"scope": f"{scope['kind']} {detail}" if scope else "unclaimed"}
