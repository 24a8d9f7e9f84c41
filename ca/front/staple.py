"""The OCSP response that the front staples to its own certificate: its clients need not ask the status
service, which then learns nothing of them.

Rules:
- The responder is asked every REFRESH_S, so the revocation of a front's certificate shows within that time.
- A response is stapled from its thisUpdate to its nextUpdate, and only to the certificate that it is about.
  None rather than a stale one: the client then does what it does without stapling.
- While the responder is away, the last response serves for as long as it lasts.

Standard: RFC 6066 section 8, RFC 6960; RFC 8446 section 4.4.2.1 for TLS 1.3.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp

from ostiary.edge.clock import Clock
from ostiary.errors import OstiaryError

_log = logging.getLogger("ostiary.ca.front")
REFRESH_S: Final = 30.0

AskResponder: TypeAlias = Callable[[bytes], Awaitable[bytes]]
"""Called with an OCSPRequest (DER), returns an OCSPResponse (DER); raises OstiaryError."""


class Staple:
    """The newest response about one certificate."""

    def __init__(self, leaf: x509.Certificate, issuing: x509.Certificate) -> None:
        self._serial_number = leaf.serial_number
        # Without a nonce, which no client of this handshake chose: the responder may answer what it kept.
        builder = ocsp.OCSPRequestBuilder().add_certificate(leaf, issuing, hashes.SHA256())
        self.request = builder.build().public_bytes(Encoding.DER)
        # (the response, DER; its thisUpdate and nextUpdate)
        self._newest: tuple[bytes, datetime, datetime] | None = None

    def take(self, response_der: bytes) -> bool:
        """Keep a response for stapling; returns whether it is a status of the certificate."""
        try:
            response = ocsp.load_der_ocsp_response(response_der)
        except ValueError:
            return False
        if response.response_status is not ocsp.OCSPResponseStatus.SUCCESSFUL:
            return False
        says_nothing = response.certificate_status is ocsp.OCSPCertStatus.UNKNOWN
        until = response.next_update_utc
        if says_nothing or until is None or response.serial_number != self._serial_number:
            return False
        self._newest = (response_der, response.this_update_utc, until)
        return True

    def at(self, now: datetime) -> bytes:
        """The response to staple at that time, empty for none."""
        if self._newest is None:
            return b""
        response_der, begin, end = self._newest
        return response_der if begin <= now < end else b""


class Stapler:
    """Asks for the staple of this worker's certificate; `run` is the task."""

    def __init__(self, ask: AskResponder, *, issuing: x509.Certificate, clock: Clock) -> None:
        self._ask = ask
        self._issuing = issuing
        self._clock = clock
        self._staple: Staple | None = None

    async def begin(self, leaf: x509.Certificate) -> Callable[[], bytes]:
        """Ask about another certificate from now on; return what is called for each handshake with it."""
        staple = Staple(leaf, self._issuing)
        await self._refresh(staple)
        self._staple = staple
        return lambda: staple.at(self._clock.now())

    async def run(self) -> None:
        """Ask again and again until cancelled."""
        while True:
            await asyncio.sleep(REFRESH_S)
            if self._staple is not None:
                await self._refresh(self._staple)

    async def _refresh(self, staple: Staple) -> None:
        try:
            response = await self._ask(staple.request)
        except OstiaryError as exc:
            _log.warning("staple-not-renewed", extra={"problem": exc.message})
            return
        if not staple.take(response):
            _log.warning("staple-not-renewed", extra={"problem": "the responder gives no status"})
