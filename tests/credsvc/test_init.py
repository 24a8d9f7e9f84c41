"""`credsvc init`: a service is made once, its keys lie sealed, and what is public verifies."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from credsvc.init import APPROVER_SERVICE, NewService, init_service
from credsvc.intake_document import read_intake
from credsvc.keyholder.evaluator import CredentialEvaluator
from credsvc.keyholder.keys import CredentialKeys, load_intake_key
from credsvc.keyholder.sealed_credential import CREDENTIAL_PURPOSE
from ostiary.edge.home import ServiceHome
from ostiary.edge.kek import load_kek
from ostiary.edge.passphrase import unwrap
from ostiary.errors import BadInput, Conflict, Unauthenticated
from ostiary.keyholder.keys import KEYS_PURPOSE, load_ledger_key, open_keys
from ostiary.keyholder.seal import Sealer
from ostiary.ledger.note import KeyType, verifier_key
from tests.credsvc.test_config import CONFIG

PASSPHRASE = "correct horse battery staple"


def plan(folder: Path, *, passphrase: str = PASSPHRASE) -> NewService:
    return NewService(
        config=CONFIG,
        root_pem=b"-----BEGIN CERTIFICATE-----",
        approver_file=folder / "approver",
        approver_passphrase=lambda: passphrase,
        kek_passphrase=None,
        recovery=None,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> ServiceHome:
    folder = tmp_path_factory.mktemp("service")
    made = ServiceHome(folder / "credsvc")
    init_service(made, plan(folder))
    return made


@pytest.fixture(scope="module")
def kek(home: ServiceHome) -> bytes:
    return load_kek("file:kek", "shop.example", "credentials", directory=home.keyholder)


@pytest.fixture(scope="module")
def keys(home: ServiceHome, kek: bytes) -> CredentialKeys:
    return open_keys(home.sealed_keys.read_bytes(), CredentialKeys, Sealer(kek, purpose=KEYS_PURPOSE))


def test_the_keyholder_can_begin_with_what_was_sealed(keys: CredentialKeys, kek: bytes) -> None:
    assert keys.application == "shop.example"
    CredentialEvaluator(keys, Sealer(kek, purpose=CREDENTIAL_PURPOSE))


def test_the_public_verifier_key_is_the_ledger_keys(home: ServiceHome, keys: CredentialKeys) -> None:
    vkey = verifier_key(CONFIG.origin, load_ledger_key(keys.ledger_key), KeyType.LOG)
    assert (home.public / "ledger.vkey").read_text().strip() == str(vkey)


def test_the_public_intake_key_is_signed_by_the_ledger_key(home: ServiceHome, keys: CredentialKeys) -> None:
    published = read_intake(
        (home.public / "intake.json").read_bytes(),
        application="shop.example",
        ledger_key=load_ledger_key(keys.ledger_key).public_key(),
    )
    assert published == load_intake_key(keys.intake_key).public_key().public_bytes_raw()


def test_the_approver_key_opens_with_its_passphrase_alone(home: ServiceHome, keys: CredentialKeys) -> None:
    content = (home.path.parent / "approver").read_bytes()
    seed = unwrap(content, PASSPHRASE, application="shop.example", service=APPROVER_SERVICE)
    public_key = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    assert public_key == keys.approver_key
    with pytest.raises(Unauthenticated):
        unwrap(content, "another passphrase", application="shop.example", service=APPROVER_SERVICE)


def test_nothing_private_lies_open(home: ServiceHome, keys: CredentialKeys) -> None:
    for path in (home.sealed_keys, home.keyholder / "kek", home.path.parent / "approver"):
        assert path.stat().st_mode & 0o077 == 0
    content = b"".join(path.read_bytes() for path in home.path.parent.rglob("*") if path.is_file())
    for private in (keys.ledger_key, keys.intake_key):
        assert private[-32:] not in content


def test_a_service_is_made_once(home: ServiceHome) -> None:
    before = {path: path.read_bytes() for path in home.path.parent.rglob("*") if path.is_file()}
    with pytest.raises(Conflict):
        init_service(home, plan(home.path.parent))
    assert {path: path.read_bytes() for path in before} == before


def test_an_approver_file_is_never_overwritten(tmp_path: Path) -> None:
    """It may be the only copy of another service's key."""
    (tmp_path / "approver").write_bytes(b"another key")
    with pytest.raises(Conflict):
        init_service(ServiceHome(tmp_path / "credsvc"), plan(tmp_path))
    assert (tmp_path / "approver").read_bytes() == b"another key"
    assert not (tmp_path / "credsvc").exists()


def test_what_failed_half_way_is_no_service_and_can_be_made_again(tmp_path: Path) -> None:
    home = ServiceHome(tmp_path / "credsvc")
    with pytest.raises(BadInput):
        init_service(home, plan(tmp_path, passphrase="short"))
    assert not home.config.exists()
    assert not (tmp_path / "approver").exists()
