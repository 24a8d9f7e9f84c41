"""The sub-systems that this product itself consists of, by their names in certificates.

Clients reach a service by its node's name as well as by its agent's, so its certificate carries both
(`Identity.node_name_in_san`).
"""

from __future__ import annotations

from typing import Final

from ostiary.names import SubSystem

CERTIFICATE_AUTHORITY: Final = SubSystem("certificate-authority")
CERTIFICATE_MANAGER: Final = SubSystem("certificate-manager")
CREDENTIALS_SERVICE: Final = SubSystem("credentials-service")
NODE_CONTROLLER: Final = SubSystem("node-controller")

SERVICES: Final = frozenset({CERTIFICATE_AUTHORITY, CREDENTIALS_SERVICE})
"""The sub-systems whose certificates carry the node's own name."""
