"""`ostiary agent`: ask for an agent, claim its certificate, run a program as it.

Rules:
- A claim token comes by `-` or `fd:N`. A private key leaves only where --out says so.
- `exec` puts the key into a new session keyring that only the program and its children share; arguments and
  environment stay unchanged.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from certmgr.commands.manager_errors import command_error
from ostiary.cli import output
from ostiary.cli.manager_socket import manager_socket, socket_option
from ostiary.cli.secret_argument import SECRET
from ostiary.errors import BadInput, Busy, Misconfigured
from ostiary.secret import Secret

if TYPE_CHECKING:
    from certmgr.client import Claimed

_VIA = click.Choice(["auto", "keyring", "socket"])
_IN_MEMORY = frozenset({"tmpfs", "ramfs"})  # the pages of a tmpfs may still be swapped out (tmpfs(5))


@click.group()
def agent() -> None:
    """Agents of this node: ask for one, claim its certificate, run a program as it."""


@agent.command()
@click.option("--subsystem", required=True, metavar="NAME", help="The agent's sub-system.")
@click.option(
    "--capability", "capabilities", multiple=True, metavar="C", help="A capability that it will need."
)
@click.option(
    "--endpoint",
    "endpoints",
    multiple=True,
    metavar="URL",
    help="Where it will listen; the host may be omitted.",
)
@click.option("--uid", type=int, help="Only this user may claim it.")
@click.option("--pid", type=int, help="Only this process and its descendants may claim it.")
@socket_option
def request(
    subsystem: str,
    capabilities: tuple[str, ...],
    endpoints: tuple[str, ...],
    uid: int | None,
    pid: int | None,
    socket_path: Path | None,
) -> None:
    """Ask for a new agent, as an agent that may spawn it; hand the printed claim token to the child."""
    from certmgr.client import ManagerError, request_agent

    path = manager_socket(socket_path)
    try:
        name, token = request_agent(
            path, subsystem, capabilities=capabilities, endpoints=endpoints, uid=uid, pid=pid
        )
    except ManagerError as exc:
        raise command_error(exc) from exc
    output.emit({"agent": name, "claim_token": token}, human=f"agent {name}\n{token}")


@agent.command()
@click.argument("token", type=SECRET)
@click.option("--agent", "name", metavar="UUID", help="The agent's name; the keyring needs it.")
@click.option(
    "--out",
    metavar="DIR|-",
    help="Write cert, chain, key, bundle and ca.pem there, or key and chain to stdout.",
)
@click.option("--via", type=_VIA, default="auto", show_default=True)
@click.option(
    "--lease/--no-lease",
    default=True,
    help="Lease the agent to this session, because this command ends at once.",
)
@socket_option
def claim(
    token: Secret, name: str | None, out: str | None, via: str, lease: bool, socket_path: Path | None
) -> None:
    """Claim a certificate; without --out, show only its public parts."""
    claimed = _claimed(token, name, via, manager_socket(socket_path), lease=lease)
    shown: dict[str, Any] = {
        "agent": claimed.agent,
        "generation": claimed.generation,
        "not_after": claimed.not_after,
        "certificate": claimed.certificate.decode(),
        "chain": claimed.chain.decode(),
    }
    text = claimed.chain.decode()
    if out == "-":
        shown["key"] = claimed.key.decode()
        text = claimed.key.decode() + text
    elif out is not None:
        shown["out"] = str(_write(claimed, Path(out)))
        text = f"agent {claimed.agent}: cert.pem chain.pem key.pem bundle.pem ca.pem in '{out}'"
    output.emit(shown, human=text.rstrip("\n"))


def _claimed(token: Secret, name: str | None, via: str, path: Path, *, lease: bool) -> Claimed:
    from certmgr import client
    from keyutils.keyring import KeyringError

    if via == "keyring" and name is None:
        raise click.UsageError("--via keyring needs --agent UUID")
    text = _text(token)
    try:
        if name is not None and (via == "keyring" or (via == "auto" and client.upcall_reaches(path))):
            return client.claim_by_keyring(name, text)
        return client.claim(path, text, agent=name, lease=lease)
    except client.ManagerError as exc:
        raise command_error(exc) from exc
    except KeyringError as exc:
        error = Busy if exc.name in {"EAGAIN", "ETIMEDOUT"} else BadInput
        raise error(f"request_key(2) refused: {exc.name}") from exc


def _text(token: Secret) -> str:
    try:
        return token.reveal().decode("ascii")
    except UnicodeDecodeError:
        raise BadInput("token: not ASCII text", field="token") from None


def _write(claimed: Claimed, directory: Path) -> Path:
    from ostiary.edge.durable_files import PRIVATE_FILE, PUBLIC_FILE, make_directory, write_atomic

    make_directory(directory)
    if _file_system(directory) not in _IN_MEMORY:
        output.note(f"'{directory}' is on a disk, and so is the private key now")
    # Five files, because programs differ: nginx and PostgreSQL want key and chain apart, HAProxy one bundle.
    write_atomic(directory / "key.pem", claimed.key, mode=PRIVATE_FILE)
    write_atomic(directory / "bundle.pem", claimed.key + claimed.chain, mode=PRIVATE_FILE)
    write_atomic(directory / "cert.pem", claimed.certificate, mode=PUBLIC_FILE)
    write_atomic(directory / "chain.pem", claimed.chain, mode=PUBLIC_FILE)
    write_atomic(directory / "ca.pem", claimed.root, mode=PUBLIC_FILE)
    return directory


def _file_system(directory: Path) -> str:
    """Return the type of the file system under a directory, by its device (proc_pid_mountinfo(5))."""
    status = directory.stat().st_dev
    wanted = f"{os.major(status)}:{os.minor(status)}"
    # 36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw
    # The optional fields before the hyphen vary in number; major:minor is the third, the type follows it.
    for line in Path("/proc/self/mountinfo").read_text("utf-8").splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[2] == wanted:
            return after.split()[0]
    return "unknown"


@agent.command(name="exec", context_settings={"ignore_unknown_options": True})
@click.option("--agent", "name", metavar="UUID", help="The agent's name; the keyring needs it.")
@click.option("--via", type=_VIA, default="auto", show_default=True)
@socket_option
@click.argument("token", type=SECRET)
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def run(
    name: str | None, via: str, socket_path: Path | None, token: Secret, command: tuple[str, ...]
) -> None:
    """Claim, then become COMMAND with the key in a session keyring of its own (`ostiary:<agent>`)."""
    from certmgr.client import keep_in_session
    from keyutils import agent_keys
    from keyutils.keyring import KeyringError

    try:
        agent_keys.join_session()
        # No lease: this very process becomes the program, so its scope is a process of its own.
        claimed = _claimed(token, name, via, manager_socket(socket_path), lease=False)
        # The upcall has put the key into the session already; the socket has not.
        if agent_keys.find(claimed.agent) is None:
            keep_in_session(claimed)
    except KeyringError as exc:
        raise Misconfigured(
            f"the kernel refuses a session keyring ({exc.name}); use `agent claim --out`"
        ) from exc
    try:
        os.execvp(command[0], command)  # noqa: S606 - the user's own command, without a shell
    except OSError as exc:
        raise BadInput(f"cannot run '{command[0]}': {exc.strerror}", field="command") from exc
