"""A listening socket of a channel, and whom it admits: by user, or by group where groups are named."""

from __future__ import annotations

import socket
import struct
from typing import Final

from ostiary.edge.packet_socket import PeerCredentials

# Not in Python's socket module: SO_PEERGROUPS (Linux 4.13).
_SO_PEERGROUPS: Final = 59
# Python's getsockopt takes no larger buffer.
_MAX_GROUPS: Final = 256


class Listener:
    """`peers` counts who is connected; its owner keeps it, and closes whom `admits` refuses."""

    def __init__(
        self,
        sock: socket.socket,
        channel: str,
        *,
        allowed_uids: frozenset[int],
        allowed_gids: frozenset[int],
        max_peers: int,
    ) -> None:
        self.sock = sock
        self.channel = channel
        self.peers = 0
        self._allowed_uids = allowed_uids
        self._allowed_gids = allowed_gids
        self._max_peers = max_peers

    def admits(self, sock: socket.socket, peer: PeerCredentials) -> bool:
        """Whether this peer, connected by `sock`, may speak here and there is a place for it."""
        if self.peers >= self._max_peers:
            return False
        # Operators are usually in the group by a supplementary one, which only SO_PEERGROUPS tells.
        if peer.uid in self._allowed_uids or peer.gid in self._allowed_gids:
            return True
        return bool(self._allowed_gids) and not self._allowed_gids.isdisjoint(_groups_of(sock))

    def close(self) -> None:
        """Stop listening; whoever is connected stays so."""
        self.sock.close()


def _groups_of(sock: socket.socket) -> frozenset[int]:
    """Supplementary groups of the peer at connect; SO_PEERCRED only has the first group. None of somebody who
    is in more than `_MAX_GROUPS`.
    """
    try:
        raw = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, 4 * _MAX_GROUPS)
    except OSError:  # ERANGE
        return frozenset()
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))
