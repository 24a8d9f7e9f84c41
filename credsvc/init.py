"""Making a credentials service: its keys, its store, its first files. Nothing is overwritten.

keyholder/keys.sealed    ledger key, intake key and the approver's public key, sealed under the
                         key-encryption key
public/ledger.vkey       the ledger's verifier key (C2SP signed-note)
public/intake.json       the intake key, signed by the ledger key
public/root.pem          the application's root certificate
APPROVER FILE            the approver key (Ed25519 seed), wrapped under the approver's own passphrase; it
                         belongs somewhere else
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from credsvc.config import Config, print_config
from credsvc.home import MIGRATIONS
from credsvc.intake_document import publish_intake
from credsvc.keyholder.keys import CredentialKeys
from credsvc.service_name import SERVICE
from ostiary.edge.durable_files import write_atomic
from ostiary.edge.home import ServiceHome
from ostiary.edge.home_layout import lay_out
from ostiary.edge.kek_creation import RecoveryCopy, create_kek
from ostiary.edge.passphrase_wrapping import RANDOM_BYTES, wrap
from ostiary.edge.users import RoleUsers
from ostiary.errors import Conflict
from ostiary.keyholder.key_sealing import seal_keys
from ostiary.keyholder.keys import KEYS_PURPOSE
from ostiary.keyholder.seal import Sealer
from ostiary.ledger.note import KeyType, verifier_key
from ostiary.store.database import open_for_writing, sqlite_url
from ostiary.store.migrate import upgrade

APPROVER_SERVICE = "approver"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewService:
    """The arguments of `init`; a passphrase is asked for only where it is needed."""

    config: Config
    root_pem: bytes
    approver_file: Path
    approver_passphrase: Callable[[], str]
    kek_passphrase: Callable[[], str] | None
    recovery: RecoveryCopy | None


def init_service(home: ServiceHome, new: NewService) -> None:
    """Make the service; Conflict where there is one already.

    1. There is neither a service nor an approver key.
    2. Lay out the home, and make the key-encryption key.
    3. Draw the keys; the approver's goes to its own file, under a passphrase.
    4. Seal the keyholder's keys.
    5. Publish what anybody may have.
    6. Make the store.
    7. Write the config: from then on it is a service.
    """
    # 1.
    if home.config.exists() or new.approver_file.exists():
        raise Conflict(f"'{home.path}' or '{new.approver_file}' exists already: nothing was changed")
    # 2. Without users of their own for the roles: `serve` gives the files to them, as root.
    lay_out(home, RoleUsers(base=None))
    config = new.config
    kek = create_kek(
        config.kek,
        config.application,
        SERVICE,
        directory=home.keyholder,
        ask=new.kek_passphrase,
        recovery=new.recovery,
    )
    # 3.
    ledger, intake, approver = (
        Ed25519PrivateKey.generate(),
        X25519PrivateKey.generate(),
        Ed25519PrivateKey.generate(),
    )
    keys = CredentialKeys(
        application=config.application,
        approver_key=approver.public_key().public_bytes_raw(),
        intake_key=_pkcs8(intake),
        ledger_key=_pkcs8(ledger),
    )
    _write_approver_key(approver, new)
    # 4.
    sealed = seal_keys(keys, Sealer(kek, purpose=KEYS_PURPOSE), nonce=os.urandom(12))
    write_atomic(home.sealed_keys, sealed, mode=0o600)
    # 5.
    vkey = verifier_key(config.origin, ledger, KeyType.LOG)
    write_atomic(home.public / "ledger.vkey", f"{vkey}\n".encode(), mode=0o644)
    write_atomic(home.public / "intake.json", publish_intake(config.application, intake, ledger), mode=0o644)
    write_atomic(home.public / "root.pem", new.root_pem, mode=0o644)
    # 6.
    engine = open_for_writing(config.database_url or sqlite_url(home.database))
    upgrade(engine, migrations=MIGRATIONS)
    engine.dispose()
    # Readable for the front's and admin's group, writable for the recorder alone.
    home.database.chmod(0o640)
    # 7. Last: a service without a config is not one, and a second init may then clean up.
    write_atomic(home.config, print_config(config), mode=0o644)


def _write_approver_key(approver: Ed25519PrivateKey, new: NewService) -> None:
    # The approver's private key never lies in the service's home in clear, and the service itself keeps only
    # the public one: who has the home can approve nothing.
    wrapped = wrap(
        approver.private_bytes_raw(),
        new.approver_passphrase(),
        application=new.config.application,
        service=APPROVER_SERVICE,
        random=os.urandom(RANDOM_BYTES),
    )
    write_atomic(new.approver_file, wrapped, mode=0o600)


def _pkcs8(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
