"""`ostiary sign`: apply an operation of a credential to a request, as an agent.

The request is JSON on standard input, the result JSON on standard output. With --batch the input is many
requests, an array or one on each line, and the output an array of results in their order: what was released,
or a problem; the exit code is 1 if there is any. The agent's key comes from one of three places:

    --agent UUID             the session keyring (inside `ostiary agent exec`)
    --claim fd:N             the node's manager, over --socket, for a claim token
    --bundle fd:N --root F   key and chain in PEM (`agent claim --out` writes bundle.pem and ca.pem)
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from ostiary.cli import output
from ostiary.cli.manager_socket import manager_socket, socket_option
from ostiary.cli.secret_argument import SECRET
from ostiary.errors import BadInput, Misconfigured, OstiaryError
from ostiary.secret import Secret

if TYPE_CHECKING:
    import ssl
    from collections.abc import Sequence

    from credsvc.client.signing import Signed

# The front's own limit for a body is no larger; a longer request would only be refused later.
_MAX_REQUEST_BYTES: Final = 256 * 1024
# Some tens of full batches.
_MAX_BATCH_BYTES: Final = 16 << 20
_MAX_ROOT_BYTES: Final = 64 * 1024


@click.command()
@click.argument("credential")
@click.argument("operation")
@click.option("--url", required=True, metavar="URL", help="The credentials service.")
@click.option(
    "--address",
    metavar="HOST:PORT",
    help="Connect here instead; the certificate must still have the URL's name.",
)
@click.option("--explain", is_flag=True, help="Show what would be signed, and sign nothing.")
@click.option("--batch", is_flag=True, help="Take many requests: an array, or one on each line.")
@click.option("--agent", metavar="UUID", help="Take this agent's key from the session keyring.")
@click.option("--claim", type=SECRET, help="Claim the certificate with this token.")
@click.option("--bundle", type=SECRET, help="Key and chain, PEM.")
@click.option("--root", type=click.Path(path_type=Path), metavar="FILE", help="The root for --bundle, PEM.")
@socket_option
def sign(
    credential: str,
    operation: str,
    *,
    url: str,
    address: str | None,
    explain: bool,
    batch: bool,
    **identity: Any,
) -> None:
    """Apply the operation to the request on standard input, and print what it releases."""
    import msgspec

    from credsvc.client import SigningClient
    from ostiary.address import parse_address

    if explain and batch:
        raise click.UsageError("give one of --explain and --batch")
    context = _context(**identity)
    requests = _read_requests() if batch else [_read_request()]
    at = parse_address(address, field="address") if address else None
    client = SigningClient(url, context, address=(at.host, at.port) if at else None)
    try:
        if batch:
            _emit_results(client.sign_many(credential, operation, requests))
        else:
            call = client.explain if explain else client.use
            output.emit(msgspec.to_builtins(call(credential, operation, requests[0])))
    finally:
        client.close()


def _emit_results(results: Sequence[Signed | OstiaryError]) -> None:
    import msgspec

    from ostiary.edge.problems import problem_of

    shown = [
        {"problem": problem_of(each, audience="operator", instance="")}
        if isinstance(each, OstiaryError)
        else each
        for each in results
    ]
    output.emit(msgspec.to_builtins(shown))
    if any(isinstance(each, OstiaryError) for each in results):
        click.get_current_context().exit(1)


def _read_request() -> dict[str, Any]:
    from ostiary.edge.strict_json import decode_json

    request: dict[str, Any] = decode_json(_read_stdin(_MAX_REQUEST_BYTES), dict[str, Any])
    return request


def _read_requests() -> list[dict[str, Any]]:
    from ostiary.edge.strict_json import decode_json

    text = _read_stdin(_MAX_BATCH_BYTES)
    if text.lstrip().startswith(b"["):
        found: list[dict[str, Any]] = decode_json(text, list[dict[str, Any]])
        return found
    requests = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                requests.append(decode_json(line, dict[str, Any]))
            except BadInput as exc:
                raise BadInput(f"line {number}: {exc.message}", field=exc.field) from exc
    return requests


def _read_stdin(limit_bytes: int) -> bytes:
    # One byte more than allowed tells "as long as allowed" from "longer" without reading all of it.
    text = sys.stdin.buffer.read(limit_bytes + 1)
    if len(text) > limit_bytes:
        raise BadInput(f"the request has more than {limit_bytes} bytes")
    return text


def _context(
    *,
    agent: str | None,
    claim: Secret | None,
    bundle: Secret | None,
    root: Path | None,
    socket_path: Path | None,
) -> ssl.SSLContext:
    """The TLS context with the identity that was given."""
    from ostiary.edge.tls import client_context

    # Exactly one of the three.
    if [agent, claim, bundle].count(None) != 2:
        raise click.UsageError("give one of --agent, --claim and --bundle")
    if claim is not None:
        roots, identity = _claimed(claim, manager_socket(socket_path))
    elif bundle is not None:
        from ostiary.edge.files import read_limited

        if root is None:
            raise click.UsageError("--bundle needs --root FILE")
        roots, identity = read_limited(root, limit_bytes=_MAX_ROOT_BYTES), bundle.reveal()
    else:
        roots, identity = _from_keyring(agent or "")
    return client_context(roots, identity)


def _claimed(token: Secret, path: Path) -> tuple[bytes, bytes]:
    from ostiary.edge.claim import claim

    # This process ends at once: the agent's life is a lease, and not this program's scope.
    claimed = claim(path, token, lease=True)
    return claimed.root.encode("ascii"), claimed.identity_pem()


def _from_keyring(agent: str) -> tuple[bytes, bytes]:
    from keyutils import agent_keys
    from keyutils.keyring import KeyringError
    from keyutils.payload import PayloadError, decode

    try:
        payload = decode(agent_keys.request(agent))
    except (KeyringError, PayloadError) as exc:
        raise Misconfigured(
            f"the session keyring holds no key of agent '{agent}': run this inside `ostiary agent exec`"
        ) from exc
    return b"".join(payload.roots_pem), payload.private_key_pem + b"".join(payload.chain_pem)
