"""`ostiary audit`: believes the home's public key and its own arithmetic, never the service that it asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.admin.protocol import encode_page
from ostiary.cli import audit
from ostiary.cli.root import run
from ostiary.errors import NotFound
from ostiary.ledger.canonical import canonical
from ostiary.ledger.checkpoint import Checkpoint, sign
from ostiary.ledger.memory import MemoryLog
from ostiary.ledger.note import KeyType, verifier_key
from ostiary.ledger.proof import build_inclusion_proof
from ostiary.ledger.tlog_proof import TlogProof, encode_proof
from tests.support.admin_in_process import AdminInProcess

ORIGIN = "shop.example/ca"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x03" * 32)
PAGE = 100


def entry(index: int, **members: Any) -> bytes:
    return canonical(
        {
            "act": f"{index:064x}",
            "at": 1_795_000_000_000 + index,
            "decision": "authorized",
            "kind": "toy",
            **members,
        }
    )


class FakeAdmin(AdminInProcess):
    """A service's admin process over a ledger in memory; `lie` changes what it says."""

    log = MemoryLog()
    size = 0
    lie: dict[str, Any] = {}  # noqa: RUF012 - set anew by the fixture

    def __init__(self, socket_path: Path, *, service: str) -> None:
        assert service == "ca"

    def answer(self, verb: str, arguments: dict[str, Any]) -> Any:
        if verb in self.lie:
            return self.lie[verb](arguments)
        return getattr(self, verb.replace(".", "_"))(**arguments)

    def note(self, size: int) -> bytes:
        frontier = MemoryLog(self.log.entries[:size]).frontier
        return sign(Checkpoint.of(ORIGIN, frontier), ORIGIN, KEY)

    def ledger_checkpoint(self) -> Any:
        return {"origin": ORIGIN, "size": self.size, "note": self.note(self.size).decode()}

    def ledger_entries(self, first: int, count: int) -> Any:
        found = list(enumerate(self.log.entries))[first : first + min(count, PAGE)]
        return [{"index": index, "entry": text.decode()} for index, text in found]

    def ledger_page(self, first: int, count: int) -> Any:
        found = self.log.entries[first : first + min(count, PAGE)]
        return encode_page(found, following=first + len(found))

    def ledger_leaves(self, tile: int) -> Any:
        found = [self.log.rows.get((0, index), b"") for index in (tile, tile + 1)]
        return b"".join(found) if all(found) else found[0]

    def ledger_find(self, terms: list[str], first: int, count: int) -> Any:
        wanted = terms[0].partition(":")[2]
        found = [
            (i, text) for i, text in enumerate(self.log.entries) if wanted.encode() in text and i >= first
        ]
        return [{"index": index, "entry": text.decode()} for index, text in found[:count]]

    def ledger_tile(self, level: int, index: int, width: int) -> Any:
        return {"hashes": self.log.tile(level, index, width).hex()}

    def ledger_prove(self, index: int) -> Any:
        if index >= self.size:
            raise NotFound(f"no entry {index}")
        path = build_inclusion_proof(self.log, index=index, size=self.size)
        proof = TlogProof(index=index, path=path, note=self.note(self.size))
        return {
            "index": index,
            "proof": encode_proof(proof).decode(),
            "entry": self.log.entries[index].decode(),
        }


@pytest.fixture(autouse=True)
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MemoryLog:
    log = MemoryLog(entry(index) for index in range(300))
    log.append([entry(300, certificate={"serial": "abcd"}), entry(301, serial="abcd", kind="revoke")])
    monkeypatch.setattr(audit, "AdminClient", FakeAdmin)
    monkeypatch.setattr(FakeAdmin, "log", log)
    monkeypatch.setattr(FakeAdmin, "size", log.size)
    monkeypatch.setattr(FakeAdmin, "lie", {})
    monkeypatch.setenv("OSTIARY_HOME", str(tmp_path))
    public = tmp_path / "ca" / "public"
    public.mkdir(parents=True)
    (public / "ledger.vkey").write_text(f"{verifier_key(ORIGIN, KEY, KeyType.LOG)}\n")
    return log


def answer(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert run(["--json", "audit", *arguments]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_right_ledger_is_verified_whole_and_from_a_checkpoint_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeAdmin, "size", 200)
    saved = tmp_path / "checkpoint"
    assert answer(capsys, "verify", "--save", str(saved))["entries"] == 200
    monkeypatch.setattr(FakeAdmin, "size", 302)
    later = answer(capsys, "verify", "--since", str(saved))
    assert (later["tree_size"], later["entries"]) == (302, 102)


@pytest.mark.parametrize("index", [0, 255, 256, 301])
def test_a_changed_entry_is_found(ledger: MemoryLog, capsys: pytest.CaptureFixture[str], index: int) -> None:
    kept = FakeAdmin.note(FakeAdmin(Path(), service="ca"), 302).decode()
    FakeAdmin.lie["ledger.checkpoint"] = lambda _: {"note": kept}
    stored = MemoryLog(ledger.entries)  # a store keeps leaf hashes beside the entries
    FakeAdmin.lie["ledger.tile"] = lambda asked: {"hashes": stored.tile(**asked).hex()}
    FakeAdmin.lie["ledger.leaves"] = lambda asked: stored.tile(0, asked["tile"], 256)
    ledger.entries[index] = entry(9999)
    assert run(["--json", "audit", "verify"]) == 1
    assert str(index) in json.loads(capsys.readouterr().err)["detail"]


def test_a_missing_entry_is_found(ledger: MemoryLog) -> None:
    kept = FakeAdmin.note(FakeAdmin(Path(), service="ca"), 302).decode()
    FakeAdmin.lie["ledger.checkpoint"] = lambda _: {"note": kept}
    ledger.entries.pop()
    assert run(["audit", "verify"]) == 1


def test_another_history_than_the_one_proven_before_is_found(tmp_path: Path, ledger: MemoryLog) -> None:
    saved = tmp_path / "checkpoint"
    assert run(["audit", "verify", "--save", str(saved)]) == 0
    other = MemoryLog([entry(7), *ledger.entries[1:], entry(302)])
    FakeAdmin.log, FakeAdmin.size = other, other.size
    assert run(["audit", "verify"]) == 0  # a history of its own that holds together
    assert run(["audit", "verify", "--since", str(saved)]) == 1


def test_a_shrunk_ledger_is_found(tmp_path: Path) -> None:
    saved = tmp_path / "checkpoint"
    assert run(["audit", "verify", "--save", str(saved)]) == 0
    FakeAdmin.size = 200
    assert run(["audit", "verify", "--since", str(saved)]) == 1


def test_anothers_signature_is_not_believed(tmp_path: Path) -> None:
    other = Ed25519PrivateKey.from_private_bytes(b"\x04" * 32)
    (tmp_path / "ca" / "public" / "ledger.vkey").write_text(str(verifier_key(ORIGIN, other, KeyType.LOG)))
    assert run(["audit", "verify"]) == 1
    assert run(["audit", "prove", "3"]) == 1


def test_a_certificate_is_proven_by_the_entry_that_issued_it(capsys: pytest.CaptureFixture[str]) -> None:
    proven = answer(capsys, "prove", "abcd")
    assert (proven["index"], proven["entry"]["certificate"]["serial"]) == (300, "abcd")
    assert proven["proof"].startswith("c2sp.org/tlog-proof@v1\n")
    assert answer(capsys, "prove", "17")["index"] == 17


def test_a_proof_of_another_entry_is_refused(ledger: MemoryLog) -> None:
    honest = FakeAdmin(Path(), service="ca").ledger_prove(5)
    FakeAdmin.lie["ledger.prove"] = lambda _: {**honest, "index": 6}
    assert run(["audit", "prove", "6"]) == 1
    FakeAdmin.lie["ledger.prove"] = lambda _: {**honest, "entry": ledger.entries[6].decode()}
    assert run(["audit", "prove", "5"]) == 1
    FakeAdmin.lie["ledger.prove"] = lambda _: honest
    assert run(["audit", "prove", "6"]) == 1, "a right proof of what was not asked"
    FakeAdmin.lie["ledger.find"] = lambda asked: (
        [] if asked["first"] > 5 else [{"index": 5, "entry": ledger.entries[5].decode()}]
    )
    assert run(["audit", "prove", "abcd"]) == 1


def test_an_export_is_verified_without_the_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exported = tmp_path / "export.jsonl"
    assert run(["audit", "export", str(exported)]) == 0
    monkeypatch.setattr(FakeAdmin, "answer", None)
    assert run(["audit", "verify", "--file", str(exported)]) == 0
    lines = exported.read_bytes().splitlines(keepends=True)
    exported.write_bytes(b"".join(lines[:5] + lines[6:]))
    assert run(["audit", "verify", "--file", str(exported)]) == 1
    exported.write_bytes(b"{}\n")
    assert run(["audit", "verify", "--file", str(exported)]) == 1


def test_a_list_is_filtered_and_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    assert [row["index"] for row in answer(capsys, "list", "--limit", "3")] == [299, 300, 301]
    assert [row["index"] for row in answer(capsys, "list", "--kind", "revoke")] == [301]
    assert [row["index"] for row in answer(capsys, "list", "--serial", "abcd")] == [300, 301]
    assert answer(capsys, "list", "--decision", "denied") == []
    assert run(["audit", "list"]) == 0  # for people
