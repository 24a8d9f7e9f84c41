"""The places of a service's home that its keyholder uses, one property for each; the others are in
`ostiary.edge.home`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class KeyholderHome:
    """The keyholder's places below the home at `path`."""

    path: Path

    @property
    def config(self) -> Path:
        """The service's settings; no secret in it."""
        return self.path / "config.toml"

    @property
    def directory(self) -> Path:
        """The keyholder's own directory; a key-encryption key in a file lies here too."""
        return self.path / "keyholder"

    @property
    def sealed_keys(self) -> Path:
        """The keyholder's keys, sealed."""
        return self.directory / "keys.sealed"

    @property
    def high_water(self) -> Path:
        """The keyholder's high-water mark."""
        return self.directory / "high-water"

    @property
    def socket(self) -> Path:
        """Where the recorder finds it, in a directory of its own."""
        return self.path / "run" / "keyholder" / "s"
