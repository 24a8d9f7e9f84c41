"""An approval signs the digests of what was shown, and nothing that the machine refuses."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from credsvc.commands.module_approval import read_proposed, sign_approval
from credsvc.commands.module_scaffold import write_scaffold
from credsvc.init import APPROVER_SERVICE
from credsvc.items import ApproveModule, approval_statement
from ostiary.edge.passphrase_wrapping import wrap
from ostiary.errors import Forbidden, Unauthenticated
from ostiary.work.item import Operator

PASSPHRASE = "correct horse battery staple"
KEY = Ed25519PrivateKey.from_private_bytes(b"\x05" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_scaffold(tmp_path / "provider-hmac")
    return tmp_path / "provider-hmac"


def _shown(folder: Path) -> dict[str, str]:
    return {
        "manifest": (folder / "manifest.toml").read_text(),
        "source": (folder / "module.py").read_text(),
        # What the service claims is not believed.
        "module_digest": "0" * 64,
        "manifest_digest": "0" * 64,
    }


def _wrapped() -> bytes:
    return wrap(
        KEY.private_bytes_raw(),
        PASSPHRASE,
        application="shop.example",
        service=APPROVER_SERVICE,
        random=bytes(28),
    )


def test_an_approval_signs_the_digests_of_what_was_shown(folder: Path) -> None:
    shown = _shown(folder)
    signed = sign_approval(read_proposed(shown), _wrapped(), PASSPHRASE, approved_at=1_800_000_000)
    assert signed["module_digest"] == hashlib.sha256(shown["source"].encode()).hexdigest()
    assert signed["manifest_digest"] == hashlib.sha256(shown["manifest"].encode()).hexdigest()
    item = ApproveModule(
        operator=Operator(uid=1, name="somebody"),
        module=signed["name"],
        module_digest=signed["module_digest"],
        manifest_digest=signed["manifest_digest"],
        approved_at=1_800_000_000,
        signature=b"",
    )
    KEY.public_key().verify(signed["signature"], approval_statement(item))


def test_a_wrong_passphrase_signs_nothing(folder: Path) -> None:
    with pytest.raises(Unauthenticated):
        sign_approval(read_proposed(_shown(folder)), _wrapped(), "wrong horse battery staple", approved_at=1)


def test_what_the_machine_refuses_is_not_signed(folder: Path) -> None:
    shown = _shown(folder)
    shown["manifest"] = shown["manifest"].replace(
        "release header.x-key = @key_id", "release header.x-key = b64(!secret_key)"
    )
    with pytest.raises(Forbidden) as refused:
        read_proposed(shown)
    assert refused.value.rule == "approval-one-way"
