"""`ostiary certmgr`: run the certificate manager of a node, and look at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from certmgr.commands.manager_errors import told
from ostiary.cli import output
from ostiary.cli.manager_socket import manager_socket, socket_option
from ostiary.errors import BadInput

_COLUMNS = ("agent", "subsystem", "state", "generation", "not_after", "scope")


@click.group()
def certmgr() -> None:
    """The certificate manager of this node: asks for agents' certificates and hands them over."""


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
    help="Where the authority dials back to.",
)
def serve(bootstrap: str, socket_path: Path | None, listen: str) -> None:
    """Be the manager until SIGTERM; agents outlive it in the kernel and are there when it comes back."""
    from certmgr.app import serve as run
    from certmgr.bootstrap import load_bootstrap
    from ostiary.edge import log

    document = load_bootstrap(bootstrap)
    address = _parse_listen(listen)
    path = manager_socket(socket_path)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    log.configure("certmgr")
    run(document, socket_path=path, listen=address)


def _parse_listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isascii() or not port.isdecimal() or not 0 < int(port) < 65536:
        raise BadInput(f"listen: {text[:128]!r} is not HOST:PORT", field="listen")
    return host.strip("[]") or "0.0.0.0", int(port)  # noqa: S104 - the authority dials back from outside


@certmgr.command()
@socket_option
def status(socket_path: Path | None) -> None:
    """Show the manager's agents, and what this machine lacks for them."""
    from certmgr.client import ManagerError, call

    try:
        found = call(manager_socket(socket_path), "GET", "/v1/status")
    except ManagerError as exc:
        raise told(exc) from exc
    output.emit(found, human=output.table([_line(row) for row in found["agents"]], _COLUMNS))
    for ledger in found["ledgers"]:
        if ledger["alarm"]:
            output.note(
                f"ALARM: the ledger '{ledger['origin']}' contradicts what it showed before (--json shows both)"
            )
    if found["lacks"]:
        output.note(f"agents must be spawned again after a restart: {found['lacks']}")
    if found["upcall_lacks"]:
        output.note(f"request_key(2) does not reach this manager: {found['upcall_lacks']}")


def _line(row: dict[str, Any]) -> dict[str, Any]:
    scope = row["scope"] or {}
    detail = scope.get("path") or scope.get("pid") or scope.get("anchor") or ""
    return row | {"scope": f"{scope['kind']} {detail}" if scope else "unclaimed"}
