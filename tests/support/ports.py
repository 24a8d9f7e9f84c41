"""Ports of loopback for services that tests start by command line: known before anybody listens there."""

from __future__ import annotations

import random
import socket
from typing import Final

# Below the ephemeral ports (ip_local_port_range begins at 32768), so that no outgoing connection takes one
# meanwhile. Several test processes choose at once: by chance, since one that counted up would meet the next.
_CHOICE: Final = range(10_000, 32_000)
_random = random.SystemRandom()


def free_port() -> int:
    """A port where nobody listens now."""
    while True:
        port = _random.choice(_CHOICE)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
