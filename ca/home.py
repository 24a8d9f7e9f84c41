"""The files that a CA keeps in its home beyond those of every service, and how they are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from ca.certificates.profile import Profile, check_profile
from ca.config import Config, load_config
from ostiary.edge.files import read_limited
from ostiary.edge.home import ServiceHome
from ostiary.edge.place import Place
from ostiary.edge.users import role_users_from_environment
from ostiary.errors import Misconfigured
from ostiary.ledger.note import VerifierKey, parse_verifier_key

LISTEN_VARIABLE: Final = "OSTIARY_CA_LISTEN"
"""How `serve` tells its roles where the front listens."""
MIGRATIONS: Final = "ca.store.migrations"
# A certificate has 2 kB; a file that grew to gigabytes must not fill a role's memory.
_LIMIT_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class CAHome:
    """The home of a CA, `HOME/ca`."""

    places: ServiceHome

    @classmethod
    def at(cls, path: Path) -> CAHome:
        """The CA's home at `path` (`HOME/ca`)."""
        return cls(ServiceHome(path))

    @property
    def root_file(self) -> Path:
        """The root's certificate, PEM."""
        return self.places.public / "root.pem"

    @property
    def issuing_file(self) -> Path:
        """The issuing CA's certificate, PEM."""
        return self.places.public / "issuing.pem"

    @property
    def root_crl_file(self) -> Path:
        """The root's CRL, DER."""
        return self.places.public / "root.crl"

    @property
    def verifier_file(self) -> Path:
        """The ledger's public key."""
        return self.places.public / "ledger.vkey"

    @property
    def sealed_root(self) -> Path:
        """The root's private key, sealed; it is needed only to make another issuing CA, and may leave the
        machine.
        """
        return self.places.path / "offline" / "root.sealed"

    def config(self) -> Config:
        """The settings, with what the command line of `serve` overrides."""
        # `init` writes this file last, so without it there is no whole CA (ca/init.py, step 5).
        if not self.places.config.exists():
            raise Misconfigured(f"no CA at '{self.places.path}': run `ostiary ca init` first")
        config = load_config(self.places.config, database=self.places.database)
        listen = os.environ.get(LISTEN_VARIABLE)
        return config.listening_at(listen) if listen else config

    def place(self) -> Place:
        """Home, users and store of this CA, for one of its roles; the supervisor told it the users."""
        return Place(
            home=self.places, users=role_users_from_environment(), database_url=self.config().database_url
        )

    def root(self) -> x509.Certificate:
        """The root's certificate."""
        return x509.load_pem_x509_certificate(read_limited(self.root_file, limit_bytes=_LIMIT_BYTES))

    def issuing(self) -> x509.Certificate:
        """The issuing CA's certificate."""
        return x509.load_pem_x509_certificate(read_limited(self.issuing_file, limit_bytes=_LIMIT_BYTES))

    def profile(self) -> Profile:
        """The checked certificate profile."""
        return check_profile(self.config().profile(), self.issuing())

    def verifier(self) -> VerifierKey:
        """The ledger's public key."""
        text = read_limited(self.verifier_file, limit_bytes=_LIMIT_BYTES).decode("ascii", "replace")
        return parse_verifier_key(text.strip())
