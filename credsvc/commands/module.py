"""`ostiary module`: make, try, propose and approve credential modules.

Rules:
- A module is a folder: manifest.toml, module.py, vectors/*.json.
- `load` only proposes. `approve` computes both digests from the bytes that it shows, so that an approver
  signs what was read, whatever the service says about it.
- `selftest` runs the code in a sandbox of its own, as the service would; the vectors' keys are published
  ones.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from credsvc.commands.module_scaffold import write_scaffold
from credsvc.commands.service_verbs import call
from ostiary.cli import output
from ostiary.cli.secret_argument import SECRET, prompt_secret
from ostiary.errors import BadInput
from ostiary.secret import Secret

if TYPE_CHECKING:
    from credsvc.formula.approve import Finding
    from credsvc.formula.manifest import Manifest
    from credsvc.formula.report import MachineReport
    from credsvc.formula.selftest import ModuleRunner, SelftestResult

_MAX_FILE_BYTES: Final = 1 << 20
# The front gives a module 0.8 s. Here a loaded machine must not fail a vector, and an endless loop still
# must.
_DEADLINE_S: Final = 5.0
_FOLDER: Final = click.Path(path_type=Path, exists=True, file_okay=False)


@click.group()
def module() -> None:
    """Credential modules: new, load, approve, selftest."""


@module.command()
@click.argument("folder", type=click.Path(path_type=Path))
def new(folder: Path) -> None:
    """Write a small working module into a new folder, to be changed."""
    written = write_scaffold(folder)
    listed = [str(path) for path in written]
    output.emit({"written": listed}, human="\n".join(listed))
    output.note(f"next: ostiary module selftest {folder}")


@module.command()
@click.argument("folder", type=_FOLDER)
@click.option("--without", multiple=True, hidden=True, help="Leave out a layer of the sandbox.")
def load(folder: Path, without: Sequence[str]) -> None:
    """Propose a module to the service; nothing uses it before it is approved."""
    from credsvc.sandbox.client.private import private_sandbox

    manifest, source = _read(folder)
    # The author hears of a mistake here; the service's own sandbox looks again before it runs anything.
    with private_sandbox(without=tuple(without)) as pool:
        pool.check_source(source.decode())
    done = call("module.propose", manifest=manifest, source=source)
    output.emit(done, human=f"{done['name']}: proposed, recorded as entry {done['entry']}")
    output.note(f"next: ostiary module approve {done['name']} --key FILE")


@module.command("list")
def list_() -> None:
    """List every version ever proposed."""
    rows = call("module.list")
    output.emit(rows, human=output.table(rows, ("name", "state", "module_digest", "manifest_digest")))


@module.command()
@click.argument("name")
def show(name: str) -> None:
    """Show the version proposed last, whatever its state: manifest and code. `module list` lists them all."""
    shown = call("module.show", name=name)
    output.emit(shown, human=f"{shown['state']}\n\n{shown['manifest']}\n\n{shown['source']}")
    if shown["state"] != "active" and shown["active_module_digest"] is not None:
        output.note(f"another version is in use: its code is {shown['active_module_digest'][:16]}...")


@module.command()
@click.argument("name")
@click.option("--key", type=click.Path(path_type=Path, exists=True), required=True, help="The approver key.")
@click.option(
    "--passphrase",
    type=SECRET,
    help="The approver key's passphrase; asked for otherwise, after showing what it approves.",
)
def approve(name: str, key: Path, passphrase: Secret | None) -> None:
    """Show what the version proposed last may do, sign it, and make it the active one."""
    from credsvc.commands.module_approval import read_proposed, sign_approval

    proposed = read_proposed(call("module.show", name=name))
    # To standard error and before the passphrase is asked for: an approver reads, then signs.
    output.note(_describe(proposed.manifest, proposed.report))
    secret = passphrase or prompt_secret("passphrase of the approver key")
    signed = sign_approval(proposed, key.read_bytes(), secret.reveal().decode(), approved_at=int(time.time()))
    done = call("module.approve", **signed)
    output.emit(
        {**done, "guessable": sorted(proposed.report.guessable)},
        human=f"{name}: active, recorded as entry {done['entry']}",
    )


@module.command()
@click.argument("folder", type=_FOLDER)
@click.option("--trace", "is_traced", is_flag=True, help="Print every binding, with the vectors' keys.")
@click.option("--without", multiple=True, hidden=True, help="Leave out a layer of the sandbox.")
@click.pass_context
def selftest(context: click.Context, folder: Path, is_traced: bool, without: Sequence[str]) -> None:
    """Check the manifest as approval would, and run the vectors through the real sandbox."""
    from credsvc.formula.manifest_toml import parse_manifest
    from credsvc.formula.report import report_manifest
    from credsvc.formula.selftest import parse_vectors, run
    from credsvc.sandbox.client.private import private_sandbox

    manifest_bytes, source = _read(folder)
    manifest = parse_manifest(manifest_bytes)
    report = report_manifest(manifest)
    vectors = [parse_vectors(path.read_bytes()) for path in sorted((folder / "vectors").glob("*.json"))]
    with private_sandbox(without=tuple(without)) as pool:
        pool.check_source(source.decode())
        results = run(manifest, _runner(pool, source), vectors, is_traced=is_traced)
    failed = [result.title for result in results if not result.passed]
    output.emit(
        {
            "module": manifest.name,
            "approvable": not report.refusals,
            "findings": [_finding(each) for each in report.findings],
            "vectors": len(results),
            "failed": failed,
            "cases": [_case(result) for result in results],
        },
        human="\n".join([_describe(manifest, report), *(_line(result) for result in results)]),
    )
    if not results:
        output.note("there are no vectors: without any, nobody can tell whether the module is right")
    # No vectors fail as well: an empty test must not look like a passed one.
    context.exit(1 if failed or report.refusals or not results else 0)


def _runner(pool: Any, source: bytes) -> ModuleRunner:
    import hashlib

    from credsvc.sandbox.client.pool import LoadedModule, ModuleDigest

    code = LoadedModule(digest=ModuleDigest(hashlib.sha256(source).hexdigest()), source=source.decode())

    def call_module(
        operation: str, request: dict[str, Any], credential: dict[str, str], clock: dict[str, int | str]
    ) -> tuple[str, Any]:
        arguments = {"request": request, "credential": credential, "clock": clock}
        proposal = pool.run(code, operation, arguments, _DEADLINE_S)
        return proposal.formula, proposal.holes

    return call_module


def _read(folder: Path) -> tuple[bytes, bytes]:
    from ostiary.edge.files import read_limited

    manifest, source = (
        read_limited(folder / name, limit_bytes=_MAX_FILE_BYTES) for name in ("manifest.toml", "module.py")
    )
    try:
        source.decode()
    except UnicodeDecodeError as exc:
        raise BadInput("module.py is not UTF-8", field="source") from exc
    return manifest, source


def _describe(manifest: Manifest, report: MachineReport) -> str:
    """What an approver reads: formulas, holes, whether passwords can be tried, and what the machine found."""
    # The manifest's own text passes a terminal here: `manifest_toml.py` lets nothing into it that could steer
    # one.
    lines = [f"{manifest.name} {manifest.version}: {manifest.summary}"]
    for name, field in manifest.confidential.items():
        lines.append(f"  secret {name}: {field.type.value}, {field.strength.value}")
    for operation in manifest.operations.values():
        mark = (
            "  GUESSABLE: whoever sees the result can try passwords"
            if operation.name in report.guessable
            else ""
        )
        lines.append(f"\noperation {operation.name}: {operation.summary}{mark}")
        lines.append(f"  policy decides on: {', '.join(c.name for c in operation.context) or 'nothing more'}")
        for formula in operation.formulas:
            lines.append(f"  formula {formula.name}: {formula.summary}")
            lines += [f"    {line}" for line in formula.text.strip().splitlines()]
            lines.append(f"    holes: {', '.join(formula.holes)}")
    lines += [f"{each.severity} [{each.rule}] {each.place}: {each.message}" for each in report.findings]
    return "\n".join(lines)


def _finding(finding: Finding) -> dict[str, Any]:
    return {
        "rule": finding.rule,
        # The JSON output is a contract from before there was None: "" is the manifest, 0 no single line.
        "formula": finding.formula or "",
        "line": finding.line or 0,
        "message": finding.message,
        "severity": finding.severity,
    }


def _case(result: SelftestResult) -> dict[str, Any]:
    return {
        "title": result.title,
        "passed": result.passed,
        "message": result.message,
        "trace": dict(result.trace),
    }


def _line(result: SelftestResult) -> str:
    said = f"{'ok    ' if result.passed else 'FAILED'} {result.title}"
    traced = [f"         {name} = {value!r}" for name, value in result.trace]
    return "\n".join([f"{said}: {result.message}" if result.message else said, *traced])
