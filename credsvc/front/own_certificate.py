"""The front's own certificate: claimed from the node's manager, never in a file, replaced while connections
go on.

Rules:
- The claim token lies in a sealed memfd that every worker inherits. It may be used again: a later claim gives
  the newest certificate that the manager holds for this agent.
- Key and chain go from the manager's UNIX socket into TLS contexts and nowhere else.
- The manager renews by itself. Here it is only asked again, every `ASK_AGAIN_S`; a new certificate replaces
  both contexts at once.
- To claim and to build contexts blocks: it is done on a thread of `Offload`.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ostiary.edge.claim import Claimed, claim
from ostiary.edge.tls import client_context
from ostiary.errors import Busy, Misconfigured, OstiaryError
from ostiary.front.offload import Offload
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A certificate (PEM, leaf first) and the contexts made of it."""

    chain: str
    tls: FrontTLS
    client_context: ssl.SSLContext


class OwnCertificate:
    """Owner of the current TLS contexts; `root` is the application's root certificate, PEM."""

    def __init__(self, once: Claim, *, root: bytes, offload: Offload) -> None:
        self._claim = once
        self._root = root
        self._offload = offload
        self._held: _Held | None = None

    async def begin(self) -> None:
        """Claim for the first time, patiently; raises what the last attempt did."""
        self._held = await self._offload.run(lambda: self._hold(claim_patiently(self._claim)))

    def tls(self) -> FrontTLS:
        """For the next connection to this service; agents must show a certificate."""
        return self._current().tls

    def client_context(self) -> ssl.SSLContext:
        """For the next connection to the CA; any thread may ask."""
        return self._current().client_context

    async def ask_again(self) -> None:
        """Claim once more, and rotate where the manager has a newer certificate."""
        held = await self._offload.run(self._claim_newer)
        if held is not self._held:
            self._held = held
            _log.info("certificate-rotated")

    async def keep_fresh(self) -> None:
        """Ask again until cancelled."""
        while True:
            await asyncio.sleep(ASK_AGAIN_S)
            try:
                await self.ask_again()
            except OstiaryError as exc:
                _log.warning("certificate-not-claimed", extra={"problem": exc.message})

    def _current(self) -> _Held:
        if self._held is None:
            raise AssertionError("nothing was claimed yet")
        return self._held

    def _claim_newer(self) -> _Held:
        held, claimed = self._current(), self._claim()
        return held if claimed.chain == held.chain else self._hold(claimed)

    def _hold(self, claimed: Claimed) -> _Held:
        identity_pem = claimed.identity_pem()
        return _Held(
            chain=claimed.chain,
            tls=front_tls(identity_pem, self._root, client_certificates="required"),
            client_context=client_context(self._root, identity_pem),
        )


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
