"""What a CA keeps in its home beyond what every service does, and how its files are read."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509

from ca.certificates.profile import Profile, check_profile
from ca.config import Config, load_config
from ostiary.edge.files import read_limited
from ostiary.edge.home import Place, ServiceHome
from ostiary.edge.users import role_users_from_environment
from ostiary.errors import Misconfigured
from ostiary.ledger.note import VerifierKey, parse_verifier_key

LISTEN_VARIABLE: Final = "OSTIARY_CA_LISTEN"
"""Where the front listens, from `serve` to its roles."""
MIGRATIONS: Final = "ca.store.migrations"
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
        """The root's private key, sealed; wanted only to make another issuing CA."""
        return self.places.path / "offline" / "root.sealed"

    def config(self) -> Config:
        """The settings, with what `serve` said on its command line."""
        if not self.places.config.exists():
            raise Misconfigured(f"no CA at '{self.places.path}': run `ostiary ca init` first")
        config = load_config(self.places.config, database=self.places.database)
        listen = os.environ.get(LISTEN_VARIABLE)
        return config.listening_at(listen) if listen else config

    def place(self) -> Place:
        """Where this CA lives, for one of its roles: with the users that the supervisor told of."""
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
