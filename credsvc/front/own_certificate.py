"""The front's own certificate: claimed from the node's manager, never in a file, replaced while connections
go on.

Rules:
- The claim token lies in a sealed memfd that every worker inherits. It may be used again: a later claim gives
  the newest certificate that the manager holds for this agent.
- Key and chain go from the manager's UNIX socket into TLS contexts and nowhere else.
- The manager renews by itself. Here it is only asked again, every `ASK_AGAIN_S`; a new certificate replaces
  both contexts at once.
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from ostiary.edge.claim import Claimed, claim
from ostiary.edge.tls import client_context
from ostiary.errors import Busy, Misconfigured, OstiaryError
from ostiary.front.tls import FrontTLS, front_tls
from ostiary.secret import Secret

# A certificate lives for hours and is renewed at half of that: five minutes late is early enough.
ASK_AGAIN_S: Final = 300.0
FIRST_CLAIM_S: Final = 15.0
"""How long a start waits for the manager, who may itself wait for the CA's signature."""
_PAUSE_S: Final = 0.1
_MAX_TOKEN_BYTES: Final = 4096
_log = logging.getLogger("ostiary.front")


Claim = Callable[[], Claimed]


def read_claim_token(claim_fd: int) -> Secret:
    """The token in the inherited memfd; Misconfigured where there is none."""
    # pread, since all workers share one file offset with the descriptor (open(2), "Open file descriptions").
    try:
        token = os.pread(claim_fd, _MAX_TOKEN_BYTES, 0).strip()
    except OSError as exc:
        raise Misconfigured("the front has no claim token: start with `credsvc serve --claim -`") from exc
    if not token:
        raise Misconfigured("the claim token for the front is empty")
    return Secret(token)


def claim_from_manager(manager_socket: Path, claim_fd: int) -> Claim:
    """A claim over the manager's UNIX socket."""

    def once() -> Claimed:
        # Without a lease: the certificate belongs to the service, not to this process's life.
        return claim(manager_socket, read_claim_token(claim_fd), lease=False)

    return once


class OwnCertificate:
    """Owner of the current TLS contexts; `root` is the application's root certificate, PEM."""

    def __init__(self, once: Claim, *, root: bytes) -> None:
        self._claim = once
        self._root = root
        claimed = claim_patiently(once)
        self._chain = claimed.chain
        # Read by other threads: each attribute is replaced whole.
        self._tls, self._client_context = self._contexts(claimed)

    def tls(self) -> FrontTLS:
        """For the next connection to this service; agents must show a certificate."""
        return self._tls

    def client_context(self) -> ssl.SSLContext:
        """For the next connection to the CA."""
        return self._client_context

    def ask_again(self) -> None:
        """Claim once more, and rotate where the manager has a newer certificate."""
        claimed = self._claim()
        if claimed.chain != self._chain:
            self._tls, self._client_context = self._contexts(claimed)
            self._chain = claimed.chain
            _log.info("certificate-rotated")

    def keep_fresh(self, stop: threading.Event) -> None:
        """Ask again until told to stop; for a thread of its own."""
        while not stop.wait(ASK_AGAIN_S):
            try:
                self.ask_again()
            except OstiaryError as exc:
                _log.warning("certificate-not-claimed", extra={"problem": exc.message})

    def _contexts(self, claimed: Claimed) -> tuple[FrontTLS, ssl.SSLContext]:
        identity_pem = claimed.identity_pem()
        tls = front_tls(identity_pem, self._root, client_certificates="required")
        return tls, client_context(self._root, identity_pem)


def claim_patiently(once: Claim) -> Claimed:
    """Claim until it works: at a node's first start the CA's signature may still be on its way."""
    until_s = time.monotonic() + FIRST_CLAIM_S
    while True:
        try:
            return once()
        except Busy:
            if time.monotonic() >= until_s:
                raise
            time.sleep(_PAUSE_S)
