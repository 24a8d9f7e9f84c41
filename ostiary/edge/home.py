"""A service's home on disk: one property for each path. Who may enter which: `ostiary.edge.home_layout`.

`public` holds what anybody may have. No secret lies anywhere unsealed.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ostiary.edge.keyholder_home import KeyholderHome


@dataclass(frozen=True, slots=True)
class ServiceHome:
    """The places of one service below its home."""

    path: Path

    @property
    def config(self) -> Path:
        """Settings; no secret in it."""
        return self._of_keyholder.config

    @property
    def public(self) -> Path:
        """Certificates and public keys."""
        return self.path / "public"

    @property
    def keyholder(self) -> Path:
        """The keyholder's own directory: sealed keys, high-water mark."""
        return self._of_keyholder.directory

    @property
    def sealed_keys(self) -> Path:
        """The keyholder's keys, sealed."""
        return self._of_keyholder.sealed_keys

    @property
    def high_water(self) -> Path:
        """The keyholder's high-water mark."""
        return self._of_keyholder.high_water

    @property
    def store(self) -> Path:
        """The recorder's directory."""
        return self.path / "store"

    @property
    def database(self) -> Path:
        """The embedded store."""
        return self.store / "store.sqlite"

    @property
    def recorder_metrics(self) -> Path:
        """The recorder's numbers (Prometheus text), a second old at most."""
        return self.store / "recorder.prom"

    @property
    def run(self) -> Path:
        """Sockets and the supervisor's status; remade at each start."""
        return self.path / "run"

    def channel(self, name: str) -> Path:
        """The socket of a channel, in a directory of its own."""
        return self.run / name / "s"

    @property
    def operator_socket(self) -> Path:
        """Where the command line finds the admin process."""
        return self.run / "operator" / "s"

    @property
    def roles(self) -> Path:
        """The supervisor's status file."""
        return self.run / "roles.json"

    @property
    def _of_keyholder(self) -> KeyholderHome:
        return KeyholderHome(self.path)
