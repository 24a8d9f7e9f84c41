"""The hostile corpus, read and adapted to formulas (corpus/README.md), and our own entries against
formulas.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any

from credsvc.sandbox.client.decode import HoleProposal
from tests.support.repository import ROOT

ENTRY = "adapted_entry"
NEED_BUILDERS = frozenset({"control_bearer", "control_ed25519", "control_sigv4"})

_RESTRICTED_END = f"""

def {ENTRY}(request, credential, clock):
    answer = operation(request, credential, clock)
    if not isinstance(answer, dict) or not answer:
        return answer
    rows = []
    for section in answer:
        if section not in ("headers", "query") or not isinstance(answer[section], dict):
            return answer
        for name, value in answer[section].items():
            rows.append({{"name": name, "value": value}})
    return {{"formula": "corpus", "holes": {{"rows": rows}}}}
"""
_UNRESTRICTED_END = f"""

def {ENTRY}(request, credential, clock):
    return {{"formula": "corpus", "holes": {{"text": str(operation(request, credential, clock))}}}}
"""

# The types that the SigV4 manifest gives these columns: lower-case tokens, printable ASCII.
_COLUMN_NAME = re.compile(r"[a-z0-9-]+")
_COLUMN_VALUE = re.compile(r"[ -~]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry; `source` is already adapted, except in mode wire."""

    name: str
    category: str
    mode: str
    source: str
    accepted: frozenset[str]
    requests: int
    expect_detail: str
    never_detail: tuple[str, ...]
    scan: bool


def entries(mode: str) -> list[Entry]:
    """All entries of a mode that formulas leave a meaning."""
    path = ROOT / "tests" / "credsvc" / "sandbox" / "corpus" / "hostile.json"
    found = [
        _entry(each) for each in json.loads(path.read_text("utf-8")) if each["name"] not in NEED_BUILDERS
    ]
    return [entry for entry in found if entry.mode == mode]


def _entry(raw: dict[str, Any]) -> Entry:
    accepted = {raw["expect"], *raw["also"]}
    if raw["category"] == "leak_expr":
        accepted |= {"load_rejected", "op_error", "output_rejected"}
    # A record is whole: what is no answer is refused at once, and the worker ended.
    if raw["category"] == "protocol":
        accepted |= {"output_rejected"}
    end = {"restricted": _RESTRICTED_END, "unrestricted": _UNRESTRICTED_END, "wire": ""}[raw["mode"]]
    return Entry(
        name=raw["name"],
        category=raw["category"],
        mode=raw["mode"],
        source=raw["source"] + end,
        accepted=frozenset(accepted),
        requests=raw.get("requests", 1),
        expect_detail=raw.get("expect_detail", ""),
        never_detail=tuple(raw.get("never_detail", ())),
        scan=raw.get("scan", False),
    )


def wire_bytes(entry: Entry) -> bytes:
    """The message of a wire entry, made from random handles."""
    space: dict[str, Any] = {}
    exec(entry.source, space)  # noqa: S102 - our own test data
    handles = {name: secrets.token_hex(8) for name in ("secret_key", "api_token", "private_key")}
    message = space["wire"](handles)
    assert type(message) is bytes
    return message


def fits_columns(proposal: HoleProposal) -> bool:
    """What the hole's type would say of the rows: the part of the evaluator that the corpus leans on."""
    rows = proposal.holes.get("rows", [])
    assert type(rows) is list
    names = [row["name"] for row in rows]
    return len(set(names)) == len(names) and all(
        _COLUMN_NAME.fullmatch(row["name"]) and _COLUMN_VALUE.fullmatch(row["value"]) for row in rows
    )


CONTROLS = {
    "sigv4": """
def sign(request, credential, clock):
    rows = [{"name": name, "value": value} for name, value in fold_headers(request["headers"])]
    query = sort_pairs([(uri_encode(k), uri_encode(v)) for k, v in request["query"].items()])
    return {"formula": "headers", "holes": {
        "t": clock["epoch"], "method": request["method"].upper(), "path": uri_encode(request["path"], "/"),
        "query": "&".join([f"{k}={v}" for k, v in query]), "headers": rows,
        "payload": request["payload_sha256"],
        "region": credential["region"], "service": credential["service"]}}
""",
    "gogrid": """
def sign(request, credential, clock):
    return {"formula": "query", "holes": {"t": clock["epoch"]}}
""",
    "arithmetic": """
def sign(request, credential, clock):
    (a, b), c = (7, 3), 2
    total = 0
    for i, (x, y) in enumerate([(1, 2), (3, 4)]):
        total += x * y % 5 + i
    total += a ** c << 1
    text = "-" * 3 + str(sum([n for n in range(4)])) + f"{b}{True}{None}"
    found = [min(3, 1), max([2, 5]), len(text), any([0, 1]) and all([1])]
    kind = str(isinstance(a, (int, str)))
    return {"formula": "f", "holes": {"total": total, "text": text + str(found[2]), "kind": kind}}
""",
}
