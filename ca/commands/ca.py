"""`ostiary ca`: make and run a certificate authority, its tokens and certificates.

`init` and `serve` work on the home; every other command asks the running CA's admin process, so that it is
recorded. Imports of the CA itself stand inside the two: `ostiary --help` must not wait for SQLAlchemy.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ostiary.admin.client import AdminClient
from ostiary.cli import output
from ostiary.cli.duration import DURATION
from ostiary.cli.invocation import home
from ostiary.cli.recovery import recover, recovery_options
from ostiary.cli.secret_argument import SECRET, prompt_secret
from ostiary.edge.home import ServiceHome
from ostiary.errors import Misconfigured
from ostiary.secret import Secret

_TOKEN_COLUMNS = ("id", "subsystem", "node", "status", "expires_at", "bootstrap", "created_by")
_CERTIFICATE_COLUMNS = ("serial_number", "subsystem", "node", "agent", "status", "not_before", "not_after")


@click.group()
def ca() -> None:
    """The certificate authority: init, serve, tokens, certificates."""


def _places() -> ServiceHome:
    return ServiceHome(home() / "ca")


def _call(verb: str, **arguments: Any) -> Any:
    return AdminClient(_places().operator_socket, service="ca").call(verb, **arguments)


@ca.command()
@click.option("--application", required=True, help="The platform instance, a DNS-like name: shop.example.")
@click.option(
    "--node-domain", "node_domains", multiple=True, help="A domain below which nodes are named (repeatable)."
)
@click.option("--kek", default="file:kek", help="file:PATH, prompt, keyring:kernel or keyring:MODULE.CLASS.")
@click.option(
    "--recovery", type=click.Path(path_type=Path), help="Where to write a recovery copy of that key."
)
@click.option("--recovery-passphrase", type=SECRET, help="The copy's passphrase; asked for otherwise.")
@click.option("--node", help="This CA's own machine [ca.<application>].")
@click.option("--listen", help="HOST:PORT of the front.")
@click.option("--status-listen", help="HOST:PORT of OCSP and CRLs, plain HTTP.")
@click.option("--status-url", help="Their public URL, which every certificate carries.")
@click.option("--credentials-url", default="", help="The credentials service, for bootstrap documents.")
def init(
    application: str,
    node_domains: tuple[str, ...],
    kek: str,
    recovery: Path | None,
    recovery_passphrase: Secret | None,
    **given: str,
) -> None:
    """Make a CA: root (sealed, offline), issuing CA, ledger key, store."""
    from ca.config import (
        DEFAULT_GRANTS,
        DEFAULT_LISTEN,
        DEFAULT_ROLE_UID_BASE,
        DEFAULT_STATUS_LISTEN,
        ConfigFile,
    )
    from ca.home import CAHome
    from ca.init import InitPlan, init_ca
    from ostiary.edge.kek_creation import RecoveryCopy
    from ostiary.roles import choose_users

    status_listen = given["status_listen"] or DEFAULT_STATUS_LISTEN
    settings = ConfigFile(
        application=application,
        node=given["node"] or f"ca.{application}",
        node_domains=list(node_domains),
        listen=given["listen"] or DEFAULT_LISTEN,
        status_listen=status_listen,
        status_url=given["status_url"] or f"http://{status_listen}",
        credentials_url=given["credentials_url"],
        kek=kek,
        grants={name: list(held) for name, held in DEFAULT_GRANTS.items()},
    )
    plan = InitPlan(
        settings=settings,
        ask=lambda: prompt_secret("passphrase of the key-encryption key").reveal().decode(),
        recovery=RecoveryCopy(
            path=recovery.absolute(),
            ask=lambda: (
                (recovery_passphrase or prompt_secret("passphrase of the recovery copy")).reveal().decode()
            ),
        )
        if recovery
        else None,
    )
    made = CAHome(_places())
    made.places.path.parent.mkdir(parents=True, exist_ok=True)
    config = init_ca(made, plan, users=choose_users(DEFAULT_ROLE_UID_BASE, "ca.role", made.places.path))
    output.emit(
        {"home": str(made.places.path), "application": config.application, "url": config.url, "kek": kek},
        human=f"a CA for {config.application} is in {made.places.path}; start it: ostiary ca serve",
    )
    # The default suits a trial. It says so each time, because nothing else would.
    if kek.startswith("file:"):
        output.note(
            "its key-encryption key is a file in the home: whoever copies the whole home has the keys"
        )


@ca.command()
@click.option("--listen", help="HOST:PORT of the front [config.toml's].")
@recovery_options
def serve(listen: str | None, recovery: Path | None, recovery_passphrase: Secret | None) -> None:
    """Run the CA until SIGTERM or SIGINT."""
    from ca.home import CAHome
    from ca.serve import serve as run
    from ostiary.edge import log

    # With the recovery copy the key-encryption key is put back first, where the keyholder will look for it.
    if recovery is not None:
        made, config = _places(), CAHome(_places()).config()
        place, copy = made.keyholder, recovery.absolute()
        recover(
            config.kek, config.application, "ca", directory=place, copy=copy, passphrase=recovery_passphrase
        )
    log.configure("ca-supervisor")
    run(_places().path, listen)


@ca.command()
def cacerts() -> None:
    """The certificates of the CA, PEM: issuing, root."""
    # From the home, not from the admin process: also for a CA that does not run.
    public = _places().public
    try:
        pems = [(public / name).read_text("ascii") for name in ("issuing.pem", "root.pem")]
    except OSError as exc:
        raise Misconfigured(f"no CA at '{public.parent}': run `ostiary ca init` first") from exc
    output.emit({"issuing": pems[0], "root": pems[1]}, human="".join(pems).rstrip("\n"))


@ca.group()
def token() -> None:
    """Enrollment tokens of single agents."""


@token.command("create")
@click.option("--subsystem", required=True)
@click.option("--node", required=True, help="FQDN of the agent's machine.")
@click.option("--endpoint", "endpoints", multiple=True, help="https+tcp://NODE:PORT (repeatable).")
@click.option(
    "--capability",
    "capabilities",
    multiple=True,
    help="A capability within [grants] of config.toml (repeatable).",
)
@click.option("--address", default="", help="The IP address it must come from.")
@click.option("--agent", default="", help="The agent's UUID [a new one].")
@click.option("--ttl", type=DURATION, default="10m", show_default=True, help="How long the token lives.")
@click.option(
    "--csr",
    type=click.File("rb"),
    help="A PKCS#10 request (DER, or base64 of it); binds the token to its key.",
)
def create_token(ttl: int, csr: Any, **asked: Any) -> None:
    """Make a token that buys one certificate, active at once. The token is shown once."""
    import base64

    # Base64 inside JSON, which has no bytes.
    bound = {"csr": base64.b64encode(csr.read()).decode()} if csr else {}
    lists = {name: list(asked.pop(name)) for name in ("endpoints", "capabilities")}
    made = _call("token.create", ttl_s=ttl, **asked, **lists, **bound)
    output.emit(made, human=made["token"])


@token.command("list")
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
def list_tokens(limit: int) -> None:
    """The newest tokens."""
    rows = _call("token.list", limit=limit)
    output.emit(rows, human=output.table(rows, _TOKEN_COLUMNS))


@token.command("revoke")
@click.argument("token_id", metavar="ID")
def revoke_token(token_id: str) -> None:
    """Void an open token."""
    output.emit(_call("token.revoke", id=token_id), human=f"token {token_id} is void")


@ca.command()
@click.option("--node", required=True, help="FQDN of the machine.")
@click.option(
    "--address", default="", help="IP[:PORT] where its manager will listen; the CA proves it there."
)
@click.option("--again", is_flag=True, help="Void the node's earlier certificates.")
@click.option("--ttl", type=DURATION, default="1h", show_default=True, help="How long its tokens live.")
def bootstrap(node: str, address: str, again: bool, ttl: int) -> None:
    """Make a bootstrap document for a node: endpoints, root, ledgers, two tokens."""
    document = _call("bootstrap", node=node, address=address, again=again, ttl_s=ttl)
    document["ledgers"] += _credentials_ledger(document["application"])
    output.emit(document)


def _credentials_ledger(application: str) -> list[dict[str, str]]:
    """The ledger of a credentials service in the same home, where there is one."""
    verifier = ServiceHome(home() / "credsvc").public / "ledger.vkey"
    if not verifier.is_file():
        return []
    known = {"origin": f"{application}/credentials", "vkey": verifier.read_text("ascii").strip()}
    # Its first checkpoint comes from the running service; without it a node trusts the ledger that it sees
    # first.
    socket = ServiceHome(home() / "credsvc").operator_socket
    if not socket.exists():
        return [known | {"checkpoint": ""}]
    return [known | {"checkpoint": AdminClient(socket, service="credsvc").call("ledger.checkpoint")["note"]}]


@ca.command()
@click.argument("node")
@click.argument("fingerprint")
def confirm(node: str, fingerprint: str) -> None:
    """Confirm a pending certificate of a node by its SHA-256 fingerprint, which you have compared out of
    band.
    """
    done = _call("confirm", node=node, fingerprint=fingerprint)
    output.emit(done, human=f"certificate {done['serial_number']} is active")


@ca.group()
def certificate() -> None:
    """Certificates."""


@certificate.command("list")
@click.option("--subsystem", default="")
@click.option("--node", default="")
@click.option("--agent", default="")
@click.option("--status", type=click.Choice(["pending", "active", "superseded", "revoked", "expired"]))
@click.option("--limit", type=click.IntRange(1, 500), default=100, show_default=True)
def list_certificates(status: str | None, **filters: Any) -> None:
    """The newest certificates."""
    rows = _call("certificate.list", status=status or "", **filters)
    output.emit(rows, human=output.table(rows, _CERTIFICATE_COLUMNS))


@certificate.command("show")
@click.argument("serial")
def show_certificate(serial: str) -> None:
    """Show a certificate, and all that the CA knows about it."""
    output.emit(_call("certificate.show", serial=serial))


@certificate.command("revoke")
@click.argument("serial")
@click.option(
    "--reason",
    type=click.Choice(
        [
            "unspecified",
            "keyCompromise",
            "affiliationChanged",
            "superseded",
            "cessationOfOperation",
            "privilegeWithdrawn",
        ]
    ),
    default="unspecified",
    show_default=True,
)
def revoke_certificate(serial: str, reason: str) -> None:
    """Revoke a certificate; with keyCompromise, also every certificate that descends from it."""
    done = _call("certificate.revoke", serial=serial, reason=reason)
    output.emit(done, human=f"certificate {serial} is revoked ({reason})")
