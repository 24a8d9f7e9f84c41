"""`ca init`: a CA is made once, its keys lie sealed, and what is public verifies."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_der_private_key

from ca.home import CAHome
from ca.init import OFFLINE_ROOT_PURPOSE, InitPlan, init_ca
from ca.keyholder.evaluator import CAEvaluator
from ca.keyholder.keys import CAKeys
from ostiary.edge.home import ServiceHome
from ostiary.edge.kek import load_kek
from ostiary.edge.kek_creation import RecoveryCopy
from ostiary.edge.users import RoleUsers
from ostiary.errors import Conflict, Misconfigured
from ostiary.keyholder.keys import KEYS_PURPOSE, load_ledger_key, open_keys
from ostiary.keyholder.seal import Sealer
from ostiary.ledger.note import KeyType, verifier_key
from tests.support.ca_settings import RIGHT

PLAN = InitPlan(settings=RIGHT, ask=None, recovery=None)
SHARED = RoleUsers(base=None)


@pytest.fixture
def home(tmp_path: Path) -> CAHome:
    made = CAHome(ServiceHome(tmp_path / "ca"))
    init_ca(made, PLAN, users=SHARED)
    return made


def kek_of(home: CAHome) -> bytes:
    return load_kek("file:kek", "shop.example", "ca", directory=home.places.keyholder)


def test_root_and_issuing_ca_verify_and_keep_to_the_node_domains(home: CAHome) -> None:
    root, issuing = home.root(), home.issuing()
    issuing.verify_directly_issued_by(root)
    constraints = issuing.extensions.get_extension_for_class(x509.NameConstraints).value
    assert [name.value for name in constraints.permitted_subtrees or ()] == [
        "shop.example",
        "nodes.shop.example",
    ]
    crl = x509.load_der_x509_crl(home.root_crl_file.read_bytes())
    key = root.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert crl.is_signature_valid(key)
    assert home.profile().application == "shop.example"


def test_the_keyholders_keys_open_and_are_the_public_ones(home: CAHome) -> None:
    keys = open_keys(home.places.sealed_keys.read_bytes(), CAKeys, Sealer(kek_of(home), purpose=KEYS_PURPOSE))
    CAEvaluator(keys)
    assert keys.issuing_certificate == home.issuing().public_bytes(Encoding.DER)
    assert verifier_key("shop.example/ca", load_ledger_key(keys.ledger_key), KeyType.LOG) == home.verifier()


def test_the_root_lies_sealed_under_a_purpose_of_its_own(home: CAHome) -> None:
    blob, der = home.sealed_root.read_bytes(), home.root().public_bytes(Encoding.DER)
    opened = Sealer(kek_of(home), purpose=OFFLINE_ROOT_PURPOSE).open(blob, associated_data=der)
    key = load_der_private_key(opened, password=None)
    assert key.public_key() == home.root().public_key()
    with pytest.raises(Misconfigured):
        Sealer(kek_of(home), purpose=KEYS_PURPOSE).open(blob, associated_data=der)


def test_nothing_private_lies_open(home: CAHome) -> None:
    for path in (home.sealed_root, home.places.sealed_keys, home.places.keyholder / "kek"):
        assert path.stat().st_mode & 0o077 == 0
    content = b"".join(path.read_bytes() for path in home.places.path.rglob("*") if path.is_file())
    assert b"PRIVATE KEY" not in content
    # id-ecPublicKey stands in certificates; what a PKCS#8 key begins with does not
    assert bytes.fromhex("020100301306072a8648ce3d0201") not in content


def test_a_ca_is_made_once(home: CAHome) -> None:
    before = {path: path.read_bytes() for path in home.places.path.rglob("*") if path.is_file()}
    with pytest.raises(Conflict):
        init_ca(home, PLAN, users=SHARED)
    home.places.config.unlink()
    with pytest.raises(Conflict):  # a half-made one is not finished over what is there
        init_ca(home, PLAN, users=SHARED)
    assert all(path.read_bytes() == content for path, content in before.items() if path.exists())


def test_a_recovery_copy_opens_what_a_lost_key_sealed(tmp_path: Path) -> None:
    home = CAHome(ServiceHome(tmp_path / "ca"))
    copy = RecoveryCopy(path=tmp_path / "recovery", ask=lambda: "correct horse battery")
    init_ca(home, InitPlan(settings=RIGHT, ask=None, recovery=copy), users=SHARED)
    assert copy.path.stat().st_mode & 0o077 == 0
    assert kek_of(home).hex().encode() not in copy.path.read_bytes()


def test_the_store_is_the_recorders_and_its_readers(home: CAHome) -> None:
    assert home.places.database.stat().st_mode & 0o777 == 0o640
    assert home.config().application == "shop.example"
