"""Applications as a peer sees them, without a connection."""

from __future__ import annotations

import os
from typing import Any

from ostiary.edge.packet_socket import PeerCredentials
from ostiary.front.exchange import ASGIApplication, Message, Receive, Send
from ostiary.front.peer import Peer, acting_for


def peer_from(source: str, *, certificate: bytes | None = None, problem: str | None = None) -> Peer:
    """Return a peer at an address, with the certificate (DER) that it showed and what was wrong with it."""
    peer = Peer(source=source, unix=None, cut=lambda: None)
    if certificate is not None:
        peer.present(certificate, problem)
    return peer


class LocalPeer(Peer):
    """A peer over a UNIX socket, of a user of the test's choice."""

    def __init__(self, uid: int) -> None:
        super().__init__(source="", unix=None, cut=lambda: None)
        self._uid = uid

    def credentials(self) -> PeerCredentials:
        return PeerCredentials(pid=os.getpid(), uid=self._uid, gid=0)


def seen_by(peer: Peer, app: Any) -> ASGIApplication:
    """Return the application for `peer`; falcon's TestClient takes it.

    `acting_for` around the client would do nothing: asyncio's Runner, which falcon keeps, has a context of
    its own.
    """

    async def call(scope: Message, receive: Receive, send: Send) -> None:
        with acting_for(peer):
            await app(scope, receive, send)

    return call
