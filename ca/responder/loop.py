"""The responder's loop: one thread takes requests from the channels of status front and front, and renews its
own certificate.

Rules:
- The key is made in memory, at the start and with each new certificate; it never leaves the process.
- The certificate lives a day at most and is replaced after two thirds of that. As long as that fails the old
  one serves, and the next attempt waits RETRY_S, because each may hold the loop for as long as the recorder
  takes.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from ca.certificates.ocsp import ErrorStatus, error_response
from ca.certificates.profile import SERIAL_RANDOM_BYTES, Profile, build_responder_tbs, serial_number
from ca.items import ResponderCertificate
from ca.responder.answers import LOOK_S, Answers, ResponderKey
from ostiary.certificate import assemble, parse_tbs, serial_hex, spki_der
from ostiary.edge.clock import Clock
from ostiary.edge.frame import Status
from ostiary.edge.hub import Hub, Request
from ostiary.edge.stop_signal import StopSignal
from ostiary.errors import Busy, OstiaryError
from ostiary.recorder.client import RecorderPort
from ostiary.timestamp import epoch_seconds

_log = logging.getLogger("ostiary.ca.responder")
RETRY_S: Final = 30.0
# Requests that share a read of the store. It costs as much as two signatures, so more would gain little and
# have the first of them wait.
TOGETHER: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Certifier:
    """Makes the responder's keys and has them certified."""

    profile: Profile
    recording: RecorderPort
    clock: Clock
    random: Callable[[int], bytes]

    def obtain(self) -> ResponderKey:
        """Make a key and have it certified; raises what the recorder raises."""
        now = self.clock.now()
        key = ec.generate_private_key(ec.SECP256R1())
        spki = spki_der(key.public_key())
        tbs = build_responder_tbs(
            self.profile,
            number=epoch_seconds(now),  # a name that grows, without a counter to keep
            spki_der=spki,
            serial_number=serial_number(self.random(SERIAL_RANDOM_BYTES)),
            now=now,
            lifetime=self.profile.node_service_lifetime,
        )
        # The item's plain fields are read back from the bytes: the keyholder compares the two.
        parsed = parse_tbs(tbs)
        item = ResponderCertificate(
            serial=serial_hex(parsed.serial_number),
            not_after=epoch_seconds(parsed.not_valid_after_utc),
            spki_digest=hashlib.sha256(spki).digest(),
            tbs=tbs,
        )
        recorded = self.recording.submit(item)
        der = assemble(tbs, self.profile.signature_algorithm_der, recorded.output)
        return ResponderKey(key=key, certificate=x509.load_der_x509_certificate(der))

    def renew_at(self, key: ResponderKey) -> datetime:
        """When to ask for the next one: after two thirds of its lifetime."""
        begin, end = key.certificate.not_valid_before_utc, key.certificate.not_valid_after_utc
        return begin + (end - begin) * 2 / 3


class ResponderLoop:
    """Answers until told to stop. Owner: the responder's one thread."""

    def __init__(
        self, *, hub: Hub, answers: Answers, certifier: Certifier, clock: Clock, first: ResponderKey
    ) -> None:
        self._hub = hub
        self._answers = answers
        self._certifier = certifier
        self._clock = clock
        self._renew_at = certifier.renew_at(first).timestamp()
        self._looked_ns = 0

    def run(self) -> None:
        """Serve."""
        stop = StopSignal()
        self._hub.watch(stop.fd, name="stop")
        while not stop.received:
            self.turn()

    def turn(self) -> None:
        """One round.

        1. Wait for requests, at most until the feed must be looked at again.
        2. Forget the kept answers if something was revoked meanwhile.
        3. Answer the requests, TOGETHER at a time; tryLater while the store can't be read: an old "good" may
           be wrong by now.
        4. Renew the certificate in time.
        """
        # 1.
        events = self._hub.poll(LOOK_S)
        # 2. Before any answer, so that none is older than LOOK_S.
        readable = self._look()
        # 3.
        requests = [event for event in events if isinstance(event, Request)]
        for begin in range(0, len(requests), TOGETHER):
            self._reply(requests[begin : begin + TOGETHER], readable=readable)
        # 4.
        if self._clock.now().timestamp() >= self._renew_at:
            self._renew()

    def _look(self) -> bool:
        """Look at the feed every LOOK_S; returns whether the store can be read."""
        now_ns = self._clock.monotonic_ns()
        if now_ns - self._looked_ns < LOOK_S * 1e9:
            return True
        try:
            self._answers.look()
        except Busy as exc:
            _log.warning("store-unreadable", extra={"problem": exc.message})
            return False
        self._looked_ns = now_ns
        return True

    def _reply(self, requests: Sequence[Request], *, readable: bool) -> None:
        bodies = [request.body for request in requests]
        answers = self._answers.answer(bodies) if readable else [_TRY_LATER] * len(bodies)
        for request, answer in zip(requests, answers, strict=True):
            request.reply(Status.OK, answer)

    def _renew(self) -> None:
        try:
            key = self._certifier.obtain()
        except OstiaryError as exc:
            _log.warning("responder-certificate-not-renewed", extra={"problem": exc.message})
            self._renew_at = self._clock.now().timestamp() + RETRY_S
        else:
            self._answers.sign_with(key)
            self._renew_at = self._certifier.renew_at(key).timestamp()


_TRY_LATER: Final = error_response(ErrorStatus.tryLater)
