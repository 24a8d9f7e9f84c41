"""`ostiary credential`: put credentials into the service and look after them.

A secret leaves this process only as an HPKE envelope for the keyholder (`credsvc.intake`), bound to
application, credential, module and field. The intake key is trusted because the ledger key signed it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import click

from credsvc.commands.service_verbs import call
from ostiary.cli import output
from ostiary.cli.invocation import home
from ostiary.cli.secret_argument import SECRET, prompt_secret
from ostiary.secret import Secret

_MAX_PUBLIC_BYTES: Final = 64 * 1024
_COLUMNS: Final = ("name", "version", "module", "owner", "labels", "disabled")


class Pair(click.ParamType[tuple[str, str]]):
    """NAME=VALUE."""

    name = "NAME=VALUE"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        # click converts defaults as well, and wants a converted value to pass (its documentation, "Custom
        # Types").
        if isinstance(value, tuple):
            return value
        name, equals, rest = str(value).partition("=")
        if not equals or not name:
            self.fail(f"'{name}': wanted NAME=VALUE", param, ctx)
        return name, rest


class SecretField(click.ParamType[tuple[str, Secret | None]]):
    """NAME (asked for), NAME=- (standard input) or NAME=fd:N; never the secret itself (`SECRET` says why)."""

    name = "NAME[=-|fd:N]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Secret | None]:
        if isinstance(value, tuple):
            return value
        name, equals, place = str(value).partition("=")
        return name, SECRET.convert(place, param, ctx) if equals else None


PAIR: Final = Pair()


@click.group()
def credential() -> None:
    """Put, list, rotate and delete credentials."""


@credential.command()
@click.argument("name")
@click.option("--module", required=True, help="The credential module that uses it.")
@click.option("--owner", required=True, metavar="SUBSYSTEM", help="The sub-system that owns it.")
@click.option("--field", "fields", type=PAIR, multiple=True, help="A public field.")
@click.option(
    "--secret", "secrets", type=SecretField(), multiple=True, help="A secret field; NAME alone is asked for."
)
@click.option("--ceiling", type=PAIR, multiple=True, help="HOLE=PATTERN; repeat it for alternatives.")
@click.option("--label", "labels", multiple=True, help="A label that policies can name.")
def put(
    name: str,
    *,
    module: str,
    owner: str,
    fields: Sequence[tuple[str, str]],
    secrets: Sequence[tuple[str, Secret | None]],
    ceiling: Sequence[tuple[str, str]],
    labels: Sequence[str],
) -> None:
    """Create a credential, or its next version."""
    # Patterns of one hole are alternatives; different holes must all match (`credsvc.formula.holes`).
    bounds: dict[str, list[str]] = {}
    for hole, pattern in ceiling:
        bounds.setdefault(hole, []).append(pattern)
    _put(
        name,
        secrets,
        {"module": module, "owner": owner, "shareable": dict(fields), "ceiling": bounds, "labels": labels},
    )


@credential.command()
@click.argument("name")
@click.option(
    "--secret", "secrets", type=SecretField(), multiple=True, required=True, help="A secret field, as in put."
)
@click.option("--field", "fields", type=PAIR, multiple=True, help="A public field that changes with it.")
def rotate(
    name: str, secrets: Sequence[tuple[str, Secret | None]], fields: Sequence[tuple[str, str]]
) -> None:
    """Replace a credential's secrets, and enable it if it was disabled. What is not given stays as it was."""
    current = call("credential.show", name=name)
    kept = {key: current[key] for key in ("module", "owner", "ceiling", "labels")}
    _put(name, secrets, {**kept, "shareable": {**current["shareable"], **dict(fields)}})


def _put(name: str, secrets: Sequence[tuple[str, Secret | None]], description: Mapping[str, Any]) -> None:
    envelopes = _envelopes(name, description["module"], secrets)
    done = call("credential.put", name=name, envelopes=envelopes, **description)
    output.emit(done, human=f"{name}: version {done['version']}, recorded as entry {done['entry']}")


def _envelopes(
    credential_name: str, module: str, secrets: Sequence[tuple[str, Secret | None]]
) -> dict[str, bytes]:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    from credsvc.intake import EnvelopePlace
    from credsvc.intake_document import encrypt_to_intake, read_intake
    from ostiary.edge.files import read_limited
    from ostiary.edge.home import ServiceHome
    from ostiary.ledger.note import parse_verifier_key

    # Public files of the service: this command needs no secret of it, only the operator's own.
    public = ServiceHome(home() / "credsvc").public
    vkey = parse_verifier_key(
        read_limited(public / "ledger.vkey", limit_bytes=_MAX_PUBLIC_BYTES).decode("ascii").strip()
    )
    # A ledger's name is its origin, `<application>/credentials`.
    application = vkey.name.partition("/")[0]
    document = read_limited(public / "intake.json", limit_bytes=_MAX_PUBLIC_BYTES)
    ledger_key = Ed25519PublicKey.from_public_bytes(vkey.public_key)
    intake_key = read_intake(document, application=application, ledger_key=ledger_key)
    # The second would silently win.
    if len({field for field, _ in secrets}) != len(secrets):
        raise click.UsageError("a secret field was given twice")
    # Asked for one after the other, in the order of the arguments, and each sealed before the next one.
    envelopes = {}
    for field, given in secrets:
        secret = given if given is not None else prompt_secret(field)
        place = EnvelopePlace(application=application, credential=credential_name, module=module, field=field)
        envelopes[field] = encrypt_to_intake(secret, place, intake_key)
    return envelopes


@credential.command("list")
def list_() -> None:
    """List all credentials, without their secrets."""
    rows = call("credential.list")
    output.emit(rows, human=output.table([_line(row) for row in rows], _COLUMNS))


@credential.command()
@click.argument("name")
def show(name: str) -> None:
    """Show one credential, without its secrets."""
    output.emit(call("credential.show", name=name))


@credential.command()
@click.argument("name")
def disable(name: str) -> None:
    """Refuse every further use, until a new put."""
    done = call("credential.disable", name=name)
    output.emit(done, human=f"{name}: disabled, recorded as entry {done['entry']}")


@credential.command()
@click.argument("name")
def delete(name: str) -> None:
    """Delete a credential and its secrets."""
    done = call("credential.delete", name=name)
    output.emit(done, human=f"{name}: deleted, recorded as entry {done['entry']}")


def _line(row: Mapping[str, Any]) -> dict[str, Any]:
    return {**row, "labels": " ".join(row["labels"]), "disabled": "disabled" if row["disabled"] else ""}
