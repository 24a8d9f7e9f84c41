"""Checkpoints: notes signed by other implementations first, then one wrong thing at a time."""

from __future__ import annotations

import dataclasses
import json
from base64 import b64decode, b64encode
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import BadInput
from ostiary.ledger.checkpoint import (
    Checkpoint,
    KeyType,
    VerifierKey,
    add_cosignature,
    cosignatures,
    open_note,
    parse_verifier_key,
    sign,
    verifier_key,
)
from ostiary.ledger.errors import NotProven
from ostiary.ledger.note import sign_text

VECTORS = json.loads((Path(__file__).parent / "vectors" / "notes.json").read_text())
ORIGIN = "shop.example/ca"
LOG_SECRET = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
LOG_KEY = verifier_key(ORIGIN, LOG_SECRET, KeyType.LOG)
WITNESS_SECRET = Ed25519PrivateKey.from_private_bytes(b"w" * 32)
WITNESS_KEY = verifier_key("auditor.example/w1", WITNESS_SECRET, KeyType.WITNESS)
CHECKPOINT = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))
NOTE = sign(CHECKPOINT, ORIGIN, LOG_SECRET)


def published(name: str) -> bytes:
    note = VECTORS["notes"][name]
    lines = "".join(f"{line}\n" for line in note["signatures"])
    return f"{note['text']}\n{lines}".encode()


def key(name: str) -> VerifierKey:
    return parse_verifier_key(VECTORS["keys"][name])


def test_a_public_log_checkpoint_opens() -> None:
    opened = open_note(published("arche"), [key("arche")])
    assert (opened.origin, opened.size) == ("arche2025h1.staging.ct.transparency.dev", 1432088532)


def test_a_public_log_cosignatures_are_read_with_their_times() -> None:
    witnesses = [key("remora"), key("stagemole")]
    found = cosignatures(published("arche"), [*witnesses, key("arche")])
    assert found == dict.fromkeys(witnesses, 0x6A122120)


def test_a_public_log_checkpoint_with_another_size_is_refused() -> None:
    with pytest.raises(NotProven):
        open_note(published("arche").replace(b"1432088532", b"1432088533"), [key("arche")])


def test_sign_then_open_gives_the_checkpoint() -> None:
    assert open_note(NOTE, [LOG_KEY]) == CHECKPOINT


def test_extension_lines_are_signed_and_kept() -> None:
    extended = dataclasses.replace(CHECKPOINT, extensions=("epoch 2", "x y"))
    assert open_note(sign(extended, ORIGIN, LOG_SECRET), [LOG_KEY]) == extended


def test_cosignatures_are_added_and_ignored_without_their_key() -> None:
    cosigned = add_cosignature(NOTE, WITNESS_KEY.name, WITNESS_SECRET, at_s=1_679_315_147)
    assert open_note(cosigned, [LOG_KEY]) == CHECKPOINT
    assert open_note(cosigned, [LOG_KEY, WITNESS_KEY]) == CHECKPOINT
    assert cosignatures(cosigned, [WITNESS_KEY]) == {WITNESS_KEY: 1_679_315_147}
    assert cosignatures(NOTE, [WITNESS_KEY]) == {}


def test_a_witness_alone_vouches_for_no_log() -> None:
    cosigned = add_cosignature(NOTE, WITNESS_KEY.name, WITNESS_SECRET, at_s=1)
    with pytest.raises(NotProven, match="no signature of a known key"):
        open_note(cosigned, [WITNESS_KEY])


def test_the_key_of_another_log_signs_nothing_here() -> None:
    other = verifier_key("shop.example/credentials", LOG_SECRET, KeyType.LOG)
    with pytest.raises(NotProven):
        open_note(NOTE, [other])


def test_a_good_signature_by_another_log_s_key_is_not_the_log_s() -> None:
    other = verifier_key("shop.example/credentials", LOG_SECRET, KeyType.LOG)
    note = sign_text(CHECKPOINT.text(), other.name, LOG_SECRET)
    with pytest.raises(NotProven, match="no signature of a known key"):
        open_note(note, [LOG_KEY, other])


def test_a_witness_under_the_log_s_name_is_not_the_log() -> None:
    text, _, _ = NOTE.decode().rpartition("\n\n")
    other = sign_text(text + "\n", "else.example/x", LOG_SECRET)
    note = add_cosignature(other, ORIGIN, WITNESS_SECRET, at_s=1)
    witness = verifier_key(ORIGIN, WITNESS_SECRET, KeyType.WITNESS)
    assert cosignatures(note, [witness]) == {witness: 1}
    with pytest.raises(NotProven, match="no signature of a known key"):
        open_note(note, [LOG_KEY, witness])


def test_a_known_witness_bad_signature_refuses_a_good_note() -> None:
    cosigned = add_cosignature(NOTE, WITNESS_KEY.name, WITNESS_SECRET, at_s=1)
    later = add_cosignature(NOTE, WITNESS_KEY.name, WITNESS_SECRET, at_s=2)
    # The timestamp of one with the signature of the other.
    bad = _swap_payload(cosigned, later)
    assert open_note(bad, [LOG_KEY]) == CHECKPOINT
    with pytest.raises(NotProven, match=r"auditor\.example/w1"):
        open_note(bad, [LOG_KEY, WITNESS_KEY])


def _swap_payload(first: bytes, second: bytes) -> bytes:
    head, _, one = first[:-1].rpartition(b" ")
    two = second[:-1].rpartition(b" ")[2]
    return head + b" " + b64encode(b64decode(one)[:12] + b64decode(two)[12:]) + b"\n"


def test_an_unknown_signature_before_and_after_is_ignored() -> None:
    text, _, line = NOTE.decode().rpartition("\n\n")
    unknown = "\u2014 else.example/x AAAAAAECAwQ=\n"
    assert open_note(f"{text}\n\n{unknown}{line}{unknown}".encode(), [LOG_KEY]) == CHECKPOINT


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\n7\n", "\n07\n"),
        ("\n7\n", "\n+7\n"),
        ("\n7\n", "\n\u0667\n"),
        ("\n7\n", "\n9223372036854775808\n"),
        ("\n7\n", "\n\n"),
        ("Hh8=\n", "Hh9=\n"),
        ("Hh8=\n", "Hh8\n"),
        ("Hh8=\n", "HgAA\n"),
        ("shop.example/ca\n7", "shop.example/ca x\n7"),
        ("\n\n", "\n"),
        ("\u2014 ", "- "),
        ("\u2014 ", "\u2014"),
        ("\n7\n", "\n7\r\n"),
    ],
)
def test_text_that_is_no_checkpoint(old: str, new: str) -> None:
    with pytest.raises(BadInput):
        open_note(NOTE.decode().replace(old, new, 1).encode(), [LOG_KEY])


def test_a_signed_text_of_two_lines_is_no_checkpoint() -> None:
    note = sign_text("shop.example/ca\n7\n", ORIGIN, LOG_SECRET)
    with pytest.raises(BadInput, match="not a checkpoint"):
        open_note(note, [LOG_KEY])


@pytest.mark.parametrize(
    "note", [b"", b"\n\n", b"\xff" + NOTE, NOTE[:-1], NOTE + b"\n", NOTE + b"x" * 300_000]
)
def test_bytes_that_are_no_note(note: bytes) -> None:
    with pytest.raises(BadInput):
        open_note(note, [LOG_KEY])


def test_a_note_with_too_many_signatures() -> None:
    with pytest.raises(BadInput, match="at most 64"):
        open_note(NOTE + "\u2014 else.example/x AAAAAAECAwQ=\n".encode() * 64, [LOG_KEY])


def test_no_bit_of_a_note_can_change() -> None:
    for bit in range(len(NOTE) * 8):
        changed = bytearray(NOTE)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(BadInput):
            open_note(bytes(changed), [LOG_KEY])
