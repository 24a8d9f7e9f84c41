"""`ostiary credsvc`: make and run a credentials service.

`init` has to know the application, this node, the CA and the root certificate: from a bootstrap document of
the CA, or one by one. It writes the approver key to a file that belongs elsewhere: the person who approves
modules takes it away. `serve` reads the claim token of the service's own certificate once, and keeps it in a
sealed memfd (memfd_create(2), fcntl(2) F_ADD_SEALS) for its front.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from ostiary.cli import output
from ostiary.cli.invocation import home
from ostiary.cli.recovery import recover, recovery_options
from ostiary.cli.secret_argument import SECRET, prompt_secret
from ostiary.errors import Misconfigured
from ostiary.secret import Secret

# A bootstrap document or a root certificate; both have a few kilobytes.
_MAX_FILE_BYTES: Final = 256 * 1024


class _CA(msgspec.Struct, frozen=True):
    url: str


class _Bootstrap(msgspec.Struct, frozen=True):
    """The members of a bootstrap document that `init` needs; its tokens are not read."""

    application: str
    ca: _CA
    # PEM.
    root: str
    node: str


@click.group()
def credsvc() -> None:
    """The credentials service: agents use credentials, and never see a secret."""


@credsvc.command()
@click.option(
    "--ca-bootstrap", type=click.Path(path_type=Path), metavar="FILE", help="A bootstrap document of the CA."
)
@click.option("--application", metavar="NAME", help="The application, without a bootstrap document.")
@click.option("--node", metavar="FQDN", help="The node that the service runs on.")
@click.option("--ca-url", metavar="URL", help="The URL of the CA.")
@click.option(
    "--ca-address",
    metavar="HOST:PORT",
    default="",
    help="Connect here instead; the certificate must still have the URL's name.",
)
@click.option("--root", type=click.Path(path_type=Path), metavar="FILE", help="The root certificate, PEM.")
@click.option(
    "--manager-socket", metavar="PATH", required=True, help="The UNIX socket of the node's manager."
)
@click.option("--kek", default="file:kek", show_default=True, help="Where the key-encryption key is kept.")
@click.option(
    "--recovery", type=click.Path(path_type=Path), metavar="FILE", help="A wrapped copy of that key."
)
@click.option("--kek-passphrase", type=SECRET, help="For `--kek prompt` and --recovery; asked for otherwise.")
@click.option("--approver-key", type=click.Path(path_type=Path), metavar="FILE", required=True)
@click.option("--passphrase", type=SECRET, help="The approver key's passphrase; asked for otherwise.")
def init(
    ca_bootstrap: Path | None,
    root: Path | None,
    approver_key: Path,
    recovery: Path | None,
    passphrase: Secret | None,
    kek_passphrase: Secret | None,
    **given: Any,
) -> None:
    """Make the service: its keys, its store, the approver key."""
    from credsvc.config import Config
    from credsvc.init import NewService, init_service
    from ostiary.edge.home import ServiceHome
    from ostiary.edge.kek_creation import RecoveryCopy
    from ostiary.names import parse_application, parse_node

    facts = _read_bootstrap(ca_bootstrap, root, given)
    place = ServiceHome(home() / "credsvc")
    config = Config(
        application=parse_application(facts.application),
        node=parse_node(facts.node),
        kek=given["kek"],
        ca_url=facts.ca.url,
        ca_address=given["ca_address"],
        manager_socket=str(Path(given["manager_socket"]).absolute()),
    )
    ask_kek = _asker(kek_passphrase, "passphrase of the key-encryption key")
    init_service(
        place,
        NewService(
            config=config,
            root_pem=facts.root.encode("ascii"),
            approver_file=approver_key.absolute(),
            approver_passphrase=_asker(passphrase, "passphrase of the approver key"),
            kek_passphrase=ask_kek,
            recovery=RecoveryCopy(path=recovery.absolute(), ask=ask_kek) if recovery is not None else None,
        ),
    )
    made = {
        "home": str(place.path),
        "origin": config.origin,
        "vkey": (place.public / "ledger.vkey").read_text("ascii").strip(),
        "approver_key": str(approver_key),
    }
    output.emit(made, human=f"a credentials service for {config.application}\nledger key: {made['vkey']}")
    output.note(f"take '{approver_key}' away from here: it approves modules")


def _read_bootstrap(bootstrap: Path | None, root: Path | None, given: dict[str, Any]) -> _Bootstrap:
    """Read the bootstrap document. Options win over it; without a document all of them are required."""
    from ostiary.edge.files import read_limited

    if bootstrap is not None:
        try:
            document = msgspec.json.decode(
                read_limited(bootstrap, limit_bytes=_MAX_FILE_BYTES), type=_Bootstrap
            )
        except msgspec.MsgspecError as exc:
            raise Misconfigured(f"'{bootstrap}' is not a bootstrap document: {exc}") from exc
    else:
        document = _Bootstrap(application="", ca=_CA(url=""), root="", node="")
    facts = _Bootstrap(
        application=given["application"] or document.application,
        ca=_CA(url=given["ca_url"] or document.ca.url),
        root=read_limited(root, limit_bytes=_MAX_FILE_BYTES).decode("ascii") if root else document.root,
        node=given["node"] or document.node,
    )
    wanted = {"--application": facts.application, "--node": facts.node, "--ca-url": facts.ca.url}
    missing = [name for name, value in {**wanted, "--root": facts.root}.items() if not value]
    if missing:
        raise click.UsageError(f"without --ca-bootstrap also give {', '.join(missing)}")
    return facts


# Asked when the value is needed: wrong arguments are reported before anybody types a passphrase.
def _asker(given: Secret | None, label: str) -> Callable[[], str]:
    return lambda: (given or prompt_secret(label)).reveal().decode()


@credsvc.command()
@click.option("--listen", metavar="HOST:PORT", required=True)
@click.option("--claim", type=SECRET, required=True, help="The claim token of the service's own certificate.")
@recovery_options
def serve(listen: str, claim: Secret, recovery: Path | None, recovery_passphrase: Secret | None) -> None:
    """Run the service until SIGTERM."""
    from credsvc.config import Config
    from credsvc.serve import serve as run
    from credsvc.service_name import SERVICE
    from ostiary.edge import config as config_file
    from ostiary.edge import log
    from ostiary.edge.home import ServiceHome
    from ostiary.edge.tls import sealed_memfd
    from ostiary.roles import check_initialized

    place = ServiceHome(home() / "credsvc")
    check_initialized(place, "credsvc")
    # Before any role starts: the keyholder finds the key-encryption key where the configuration says.
    if recovery is not None:
        config, copy = config_file.load(place.config, Config), recovery.absolute()
        directory = place.keyholder
        recover(
            config.kek,
            config.application,
            SERVICE,
            directory=directory,
            copy=copy,
            passphrase=recovery_passphrase,
        )
    log.configure("credsvc-supervisor")
    with sealed_memfd(claim.reveal()) as path:
        # The number of the memfd. It is close-on-exec: the supervisor hands it to the front alone, under the
        # same number.
        run(place.path, listen, int(Path(path).name))
