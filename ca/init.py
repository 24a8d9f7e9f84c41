"""`ca init`: makes a CA once (keys, certificates, ledger key, store) and never overwrites one.

Plan:
1. Refuse where anything of a CA is there already; check all settings before anything is written.
2. Lay out the home; make the key-encryption key (and its recovery copy).
3. Make the root and the issuing CA (name constraints: application and node domains), the root's CRL, and the
   ledger's key.
4. Seal the root's key, for the day when another issuing CA is needed; seal the keyholder's keys with what its
   guard must know.
5. Write the public files, bring the store to its newest revision, and write the settings last: without them
   there is no CA (`CAHome.config`), so an `init` that failed half way is never taken for one.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
)

from ca.certificates.authorities import AuthorityPlan, issuing_builder, root_builder
from ca.certificates.profile import SERIAL_RANDOM_BYTES, check_profile, serial_number
from ca.config import Config, ConfigFile, check_config, write_config
from ca.home import MIGRATIONS, CAHome
from ca.keyholder.keys import CAKeys
from ostiary.edge.durable_files import PRIVATE_FILE, PUBLIC_FILE, make_directory, write_atomic
from ostiary.edge.home_layout import lay_out
from ostiary.edge.kek_creation import RecoveryCopy, create_kek
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import Conflict
from ostiary.keyholder.key_sealing import seal_keys
from ostiary.keyholder.keys import KEYS_PURPOSE
from ostiary.keyholder.seal import Sealer
from ostiary.ledger.note import KeyType, verifier_key
from ostiary.store.database import open_for_writing
from ostiary.store.migrate import upgrade

ROOT_LIFETIME: Final = timedelta(days=3650)
ISSUING_LIFETIME: Final = timedelta(days=1095)
# The root is offline: its list can't be refreshed every day.
ROOT_CRL_LIFETIME: Final = timedelta(days=365)
OFFLINE_ROOT_PURPOSE: Final = "offline root"
_NONCE_BYTES: Final = 12  # of AES-GCM: the 96 bits that NIST SP 800-38D section 5.2.1.1 recommends
# Readable by the readers' group, not by others.
_STORE_UMASK: Final = 0o027


@dataclass(frozen=True, slots=True, kw_only=True)
class InitPlan:
    """What an operator asked for; `ask` returns a passphrase where the key-encryption key needs one."""

    settings: ConfigFile
    ask: Callable[[], str] | None
    recovery: RecoveryCopy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate


def init_ca(home: CAHome, plan: InitPlan, *, users: RoleUsers) -> Config:
    """Make a CA; Conflict where there is one already, BadInput for bad settings."""
    # 1.
    places = home.places
    for taken in (places.config, places.sealed_keys, home.sealed_root, places.database, home.root_file):
        if taken.exists():
            raise Conflict(f"'{taken}' exists: a CA is made once; choose another --home")
    config = check_config(plan.settings, database=places.database)
    # 2.
    lay_out(places, users)
    kek = create_kek(
        config.kek,
        config.application,
        "ca",
        directory=places.keyholder,
        ask=plan.ask,
        recovery=plan.recovery,
    )
    # 3. and 4.
    _make_keys(home, config, kek, users)
    # 5.
    _make_store(home, config, users)
    write_atomic(places.config, write_config(plan.settings), mode=PUBLIC_FILE)
    return config


def _make_keys(home: CAHome, config: Config, kek: bytes, users: RoleUsers) -> None:
    # 3.
    now = datetime.now(UTC)
    root, issuing = _authorities(config, now)
    # Before anything is sealed: what the keyholder's guard would refuse to work with fails here.
    check_profile(config.profile(), issuing.certificate)
    ledger_key = ed25519.Ed25519PrivateKey.generate()
    # 4. Bound to the root's certificate, so that a sealed key can't be exchanged for another root's.
    make_directory(home.sealed_root.parent)
    sealed_root = Sealer(kek, purpose=OFFLINE_ROOT_PURPOSE).seal(
        _pkcs8(root.key),
        associated_data=root.certificate.public_bytes(Encoding.DER),
        nonce=secrets.token_bytes(_NONCE_BYTES),
    )
    write_atomic(home.sealed_root, sealed_root, mode=PRIVATE_FILE)
    profile = config.profile()
    keys = CAKeys(
        application=config.application,
        issuing_certificate=issuing.certificate.public_bytes(Encoding.DER),
        ocsp_url=profile.ocsp_url,
        ca_issuers_url=profile.ca_issuers_url,
        crl_base_url=profile.crl_base_url,
        issuing_key=_pkcs8(issuing.key),
        ledger_key=_pkcs8(ledger_key),
    )
    sealed = seal_keys(keys, Sealer(kek, purpose=KEYS_PURPOSE), nonce=secrets.token_bytes(_NONCE_BYTES))
    write_atomic(home.places.sealed_keys, sealed, mode=PRIVATE_FILE)
    # 5.
    _give(home.places.sealed_keys, users.uid(RoleName.KEYHOLDER), users.gid(RoleName.KEYHOLDER))
    vkey = str(verifier_key(config.origin, ledger_key, KeyType.LOG))
    for path, content in (
        (home.root_file, root.certificate.public_bytes(Encoding.PEM)),
        (home.issuing_file, issuing.certificate.public_bytes(Encoding.PEM)),
        (home.root_crl_file, _root_crl(root, now)),
        (home.verifier_file, f"{vkey}\n".encode()),
    ):
        write_atomic(path, content, mode=PUBLIC_FILE)


def _authorities(config: Config, now: datetime) -> tuple[_Authority, _Authority]:
    """Root (P-384) and issuing CA (P-256: every client checks its signatures all day)."""
    root_key, issuing_key = ec.generate_private_key(ec.SECP384R1()), ec.generate_private_key(ec.SECP256R1())
    root = root_builder(_plan(config, root_key, now, ROOT_LIFETIME)).sign(root_key, hashes.SHA384())
    issuing = issuing_builder(
        _plan(config, issuing_key, now, ISSUING_LIFETIME),
        root=root,
        node_domains=config.node_domains,
        crl_url=f"{config.status_url}/ca/root.crl",
        ca_issuers_url=f"{config.status_url}/ca/root.cer",
    ).sign(root_key, hashes.SHA384())
    return _Authority(key=root_key, certificate=root), _Authority(key=issuing_key, certificate=issuing)


def _plan(
    config: Config, key: ec.EllipticCurvePrivateKey, now: datetime, lifetime: timedelta
) -> AuthorityPlan:
    return AuthorityPlan(
        application=config.application,
        public_key=key.public_key(),
        serial_number=serial_number(secrets.token_bytes(SERIAL_RANDOM_BYTES)),
        now=now,
        not_after=now + lifetime,
    )


def _root_crl(root: _Authority, now: datetime) -> bytes:
    """The root's list, empty: an issuing CA is revoked by hand, with the root unsealed."""
    # Without an IDP: with a distribution point in it, OpenSSL 3.0 refuses the chain under -crl_check_all,
    # because the root has no CRLDP (error 44).
    identifier = root.certificate.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    authority = x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)
    return (
        x509.CertificateRevocationListBuilder()
        .issuer_name(root.certificate.subject)
        .last_update(now.replace(microsecond=0))
        .next_update(now.replace(microsecond=0) + ROOT_CRL_LIFETIME)
        .add_extension(authority, critical=False)
        .add_extension(x509.CRLNumber(1), critical=False)
        .sign(root.key, hashes.SHA384())
        .public_bytes(Encoding.DER)
    )


def _make_store(home: CAHome, config: Config, users: RoleUsers) -> None:
    """Make the store. Its files belong to the recorder; the readers' group comes with the directory
    (setgid).
    """
    # The files that SQLite makes beside the database (-wal, -shm) get its mode, so the umask counts for all
    # three.
    previous = os.umask(_STORE_UMASK)
    try:
        engine = open_for_writing(config.database_url)
        upgrade(engine, migrations=MIGRATIONS)
        engine.dispose()
    finally:
        os.umask(previous)
    for path in home.places.store.iterdir():
        _give(path, users.uid(RoleName.RECORDER), users.readers_gid())


def _pkcs8(key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def _give(path: Path, uid: int, gid: int) -> None:
    if os.getuid() == 0:
        os.chown(path, uid, gid)
