"""What a credentials service is called where a service has one word."""

from __future__ import annotations

from typing import Final

SERVICE: Final = "credentials"
"""In the name of its key-encryption key and in its ledger's origin."""
