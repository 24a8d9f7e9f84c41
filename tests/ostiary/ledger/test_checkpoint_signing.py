"""Signing a checkpoint: its text, whose key may sign it, and what no checkpoint may say."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ostiary.errors import BadInput
from ostiary.ledger.checkpoint_signing import Checkpoint, sign
from ostiary.ledger.tree import Frontier

ORIGIN = "shop.example/ca"
LOG_SECRET = Ed25519PrivateKey.from_private_bytes(b"l" * 32)
CHECKPOINT = Checkpoint(origin=ORIGIN, size=7, root=bytes(range(32)))


def test_a_note_is_text_then_signature_and_the_same_each_time() -> None:
    note = sign(CHECKPOINT, ORIGIN, LOG_SECRET)
    assert note == sign(CHECKPOINT, ORIGIN, LOG_SECRET)
    assert note.startswith(
        b"shop.example/ca\n7\nAAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n\n\xe2\x80\x94 shop.example/ca "
    )


def test_the_key_of_another_log_does_not_sign() -> None:
    with pytest.raises(BadInput, match="cannot sign"):
        sign(CHECKPOINT, "shop.example/credentials", LOG_SECRET)


def test_the_checkpoint_of_a_frontier() -> None:
    frontier = Frontier().extend([bytes(32)])
    assert Checkpoint.of(ORIGIN, frontier) == Checkpoint(origin=ORIGIN, size=1, root=bytes(32))


@pytest.mark.parametrize(
    "change",
    [
        {"size": -1},
        {"size": 2**63},
        {"root": bytes(31)},
        {"origin": ""},
        {"origin": "a b"},
        {"extensions": ("",)},
        {"extensions": ("a\nb",)},
    ],
)
def test_a_checkpoint_checks_itself(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        dataclasses.replace(CHECKPOINT, **change)
