"""`ostiary audit`: list, prove, verify and export a ledger.

The service delivers entries and hashes; this command checks them.

Rules:
- The public key comes from the home's `public/ledger.vkey` (or --vkey), never from the service.
- `list` only reads; `prove` and `verify` prove, and exit 1 if anything differs from what was signed.
- Entries stream in pages, so that a long ledger needs little memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final

import click

from ostiary.admin.client import AdminClient
from ostiary.cli import output
from ostiary.cli.audited_ledger import PAGE, AuditedLedger
from ostiary.cli.invocation import home
from ostiary.edge.home import ServiceHome
from ostiary.errors import BadInput, Misconfigured, NotFound
from ostiary.ledger.checkpoint import Checkpoint, VerifierKey, open_note, parse_verifier_key
from ostiary.ledger.errors import NotProven
from ostiary.ledger.tlog_proof import open_proof
from ostiary.ledger.verify import Since, verify_log

# The name of the service on the command line, and of its directory and commands.
_HOMES: Final = {"ca": "ca", "credentials": "credsvc"}
_COLUMNS: Final = ("index", "time", "kind", "decision", "who", "what", "rule")
_TERMS: Final = ("serial", "agent", "token", "credential", "module")


def _ledger(service: str, vkey: Path | None) -> AuditedLedger:
    places = ServiceHome(home() / _HOMES[service])
    path = vkey or places.public / "ledger.vkey"
    try:
        verifier = parse_verifier_key(path.read_text("ascii").strip())
    except OSError as exc:
        raise Misconfigured(f"can't read the ledger's public key '{path}': {exc.strerror}") from exc
    return AuditedLedger(AdminClient(places.operator_socket, service=_HOMES[service]), verifier)


_SERVICE = click.option("--service", type=click.Choice(list(_HOMES)), default="ca", show_default=True)
_VKEY = click.option(
    "--vkey", type=click.Path(path_type=Path, dir_okay=False), help="The ledger's public key [the home's]."
)


@click.group()
def audit() -> None:
    """List, prove and verify the ledger."""


@audit.command("list")
@_SERVICE
@click.option("--serial", help="Entries about this certificate.")
@click.option("--agent", help="Entries about this agent.")
@click.option("--token", help="Entries about the token with this id.")
@click.option("--credential", help="Entries about this credential.")
@click.option("--module", help="Entries about this credential module.")
@click.option("--kind", help="Acts of this kind (redeem, renew, use, ...).")
@click.option("--decision", type=click.Choice(["authorized", "denied"]))
@click.option(
    "--since", type=click.IntRange(0), default=None, metavar="SEQ", help="Entries from this one on."
)
@click.option("--limit", type=click.IntRange(1), default=100, show_default=True)
def list_entries(
    service: str, kind: str | None, decision: str | None, since: int | None, limit: int, **terms: str | None
) -> None:
    """Show recorded entries: the newest, or those that match."""
    ledger = _ledger(service, None)
    wanted = [f"{name}:{terms[name]}" for name in _TERMS if terms[name]]
    matching = (
        row
        for row in (ledger.found(wanted, since or 0) if wanted else _newest_first(ledger, since or 0))
        if _matches(row[1], kind, decision)
    )
    rows = []
    for index, entry in matching:
        rows.append({"index": index, **entry})
        if len(rows) == limit:
            break
    rows.sort(key=lambda row: row["index"])
    output.emit(rows, human=output.table([_line(row) for row in rows], _COLUMNS))


def _newest_first(ledger: AuditedLedger, since: int) -> Iterator[tuple[int, dict[str, Any]]]:
    _, checkpoint = ledger.checkpoint()
    end = checkpoint.size
    while end > since:
        # A page of the default --limit twice over: most calls need one request.
        start = max(since, end - 200)
        yield from reversed(list(ledger.indexed(start, end)))
        end = start


def _matches(entry: dict[str, Any], kind: str | None, decision: str | None) -> bool:
    return kind in {None, entry["kind"]} and decision in {None, entry["decision"]}


def _line(row: dict[str, Any]) -> dict[str, Any]:
    """Render an entry as one line: when, who, what."""
    from datetime import UTC, datetime

    # Whatever the kind of entry has of these members, in this order: the `facts` of ca/items.py and
    # credsvc/items.py, and of what those two import.
    by, certificate = row.get("by", {}), row.get("certificate", {})
    about = [
        row.get(name)
        for name in ("credential", "operation", "token", "serial", "previous", "module", "alarm", "shard")
    ]
    about += [certificate.get(name) for name in ("serial", "subsystem", "node")]
    return {
        "index": row["index"],
        "time": datetime.fromtimestamp(row["at"] / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S"),
        "kind": row["kind"],
        "decision": row["decision"],
        "who": by.get("operator") or " ".join(filter(None, (by.get("subsystem"), by.get("node")))),
        "what": " ".join(str(part) for part in about if part is not None),
        "rule": row.get("rule", ""),
    }


@audit.command()
@_SERVICE
@_VKEY
@click.argument("which", metavar="SERIAL|SEQ")
def prove(service: str, vkey: Path | None, which: str) -> None:
    """Prove that an entry, or the issuance of a certificate, is in the signed ledger."""
    ledger = _ledger(service, vkey)
    # 1. Find the entry's index: the number itself, or the entry that issued the certificate. The service's
    #    search can't be trusted, which 4 makes up for.
    asked = _index_of(ledger, which)
    # 2. Check the service's proof against the ledger's public key.
    answer = ledger.client.call("ledger.prove", index=asked)
    proof, entry = answer["proof"].encode(), answer["entry"].encode()
    checkpoint, index = open_proof(proof, entry=entry, keys=[ledger.verifier])
    # 3. It must prove the entry that was asked for.
    if index != asked:
        raise NotProven(f"the service proved entry {index}, not {asked}", first_index=asked, last_index=asked)
    # 4. The entry must be about that certificate. Entries are canonical JSON, and no other string in them
    #    looks like a serial number.
    if not _is_index(which) and f'"{which}"'.encode() not in entry:
        raise NotProven(f"the service proved entry {index}, which is not about {which[:64]!r}")
    output.emit(
        {
            "index": index,
            "entry": json.loads(entry),
            "proof": proof.decode(),
            "origin": checkpoint.origin,
            "tree_size": checkpoint.size,
        },
        human=proof.decode().rstrip("\n"),
    )
    output.note(
        f"entry {index} is in the tree of {checkpoint.size} entries that {checkpoint.origin} signed: "
        + entry.decode()
    )


def _is_index(which: str) -> bool:
    """Return whether the argument is an index and not a serial number."""
    # A serial number of ours has 159 random bits: 40 hex digits, where the largest index has 19 decimal ones.
    return which.isascii() and which.isdecimal() and len(which) < 19


def _index_of(ledger: AuditedLedger, which: str) -> int:
    """Return the index itself, or the index of the entry that issued a certificate."""
    if _is_index(which):
        return int(which)
    found = list(ledger.found([f"serial:{which}"], 0))
    for index, entry in found:
        if entry["decision"] == "authorized" and entry.get("certificate", {}).get("serial") == which:
            return index
    if not found:
        raise NotFound(f"no entry is about certificate {which[:64]!r}", field="which")
    return found[0][0]


@audit.command()
@_SERVICE
@_VKEY
@click.option(
    "--since", type=click.File("rb"), metavar="CHECKPOINT", help="A signed checkpoint verified earlier."
)
@click.option("--file", "exported", type=click.File("rb"), help="Verify an export instead of the service.")
@click.option("--save", type=click.Path(path_type=Path), help="Keep the checkpoint, for --since next time.")
def verify(
    service: str, vkey: Path | None, since: IO[bytes] | None, exported: IO[bytes] | None, save: Path | None
) -> None:
    """Verify every entry against the signed tree; with --since, only what came after.

    Starting from a verified tree and arriving at the new root proves that the new tree extends the old one.
    """
    ledger = _ledger(service, vkey)
    earlier = open_note(since.read(), [ledger.verifier]) if since else None
    if exported is not None:
        if earlier is not None:
            raise click.UsageError("--since is for a running service; an export contains every entry")
        note, checkpoint, pages = _from_export(exported, ledger.verifier)
        start = None
    else:
        note, checkpoint = ledger.checkpoint()
        start = Since.read(earlier, ledger) if earlier else None
        pages = ledger.pages(earlier.size if earlier else 0, checkpoint.size)
    first = earlier.size if earlier else 0
    entries = output.track(pages, description="verifying", total=checkpoint.size - first)
    hashes = None if exported else ledger
    verify_log(entries, checkpoint, since=start, hashes=hashes, waypoints=())
    # Only after the verification: a checkpoint on disk is one that --since may trust.
    if save is not None:
        save.write_bytes(note)
    output.emit(
        {
            "verified": True,
            "origin": checkpoint.origin,
            "tree_size": checkpoint.size,
            "root_hash": checkpoint.root.hex(),
            "entries": checkpoint.size - first,
        },
        human=f"{checkpoint.origin}: the tree of {checkpoint.size} entries is as signed; "
        f"{checkpoint.size - first} of its entries were read now",
    )


@audit.command()
@_SERVICE
@_VKEY
@click.argument("file", type=click.File("wb"), default="-")
def export(service: str, vkey: Path | None, file: IO[bytes]) -> None:
    """Write the ledger as JSON lines: the checkpoint first, then every entry exactly as it was hashed."""
    ledger = _ledger(service, vkey)
    note, checkpoint = ledger.checkpoint()
    head = {"checkpoint": note.decode(), "ostiary_export": 1, "vkey": str(ledger.verifier)}
    file.write(json.dumps(head, sort_keys=True).encode() + b"\n")
    pages = ledger.pages(0, checkpoint.size)
    for entry in output.track(pages, description="exporting", total=checkpoint.size):
        file.write(entry + b"\n")


def _from_export(
    file: IO[bytes], verifier: VerifierKey
) -> tuple[bytes, Checkpoint, Iterator[Sequence[bytes]]]:
    try:
        head = json.loads(file.readline())
        note = head["checkpoint"].encode()
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise BadInput("the file does not begin with an export's header", field="file") from exc
    return note, open_note(note, [verifier]), _lines(file)


def _lines(file: IO[bytes]) -> Iterator[Sequence[bytes]]:
    while lines := [line.removesuffix(b"\n") for line in islice(file, PAGE)]:
        yield lines
