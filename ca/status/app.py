"""What anybody may fetch over plain HTTP: OCSP, CRLs, the certificates above a leaf, metrics.

Rules:
- Everything here is public, and signed by others, so it needs no TLS; clients expect plain HTTP of AIA and
  CRLDP URLs (RFC 5280 section 8).
- OCSP requests go to the responder's channel, and its answers come back unchanged; this role holds no key.
  An answer is given again to the same request for KEEP_NS, which saves a third of its CPU.
- A revocation shows within a second, so nothing may be cached longer, except what never changes.
- Every request, whatever it asks for, takes from its source's bucket.

Standard: RFC 6960 appendix A (OCSP over HTTP), RFC 5280 section 4.2.1.13, RFC 2585 section 4 (media types).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

import falcon
import falcon.asgi
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.certificates.kept_answers import KeptAnswers, may_keep
from ca.certificates.ocsp import MAX_REQUEST_BYTES, ErrorStatus, decode_get, error_response
from ca.items import COMPLETE
from ca.status.lists import PIECE_BYTES, Lists, Version
from ostiary.edge.channel import Answer
from ostiary.edge.clock import Clock
from ostiary.edge.frame import Status
from ostiary.edge.metrics import Metrics
from ostiary.errors import BadInput, Busy, NotFound
from ostiary.front.health import add_health
from ostiary.front.http import check_pace, create_app, read_body
from ostiary.front.limits import Buckets
from ostiary.front.peer import peer_source

OCSP_REQUEST_TYPE: Final = "application/ocsp-request"
OCSP_RESPONSE_TYPE: Final = "application/ocsp-response"
CRL_TYPE: Final = "application/pkix-crl"
CERTIFICATE_TYPE: Final = "application/pkix-cert"
STAGES: Final = ("ocsp", "crl")
COUNTERS: Final = ("ocsp_requests", "crl_requests")

KEEP_NS: Final = 200_000_000
"""The responder forgets its answers within a fifth of a second of a revocation, this role within another."""
_KEPT_BYTES: Final = 8 << 20
# Making the text of the metrics costs as much as ten answers.
_METRICS_NS: Final = 200_000_000
# RFC 5019 section 6 lets caches keep an answer until its nextUpdate: for us that would be ten minutes too
# long.
_CACHED_FOR_A_SECOND: Final = "public, max-age=1, no-transform"
_CACHED_FOR_A_DAY: Final = "public, max-age=86400"
# One spelling per shard, as in the URLs of certificates; nine digits are 7e12 certificates.
_SHARD: Final = re.compile(r"(0|[1-9][0-9]{0,8})\.crl")
_TRY_LATER: Final = error_response(ErrorStatus.tryLater)
_MALFORMED: Final = error_response(ErrorStatus.malformedRequest)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusParts:
    """The parts that the resources share.

    `ask` is the responder's channel, `last_revocation` the feed's newest number; both raise Busy.
    """

    lists: Lists
    ask: Callable[[bytes], Awaitable[Answer]]
    last_revocation: Callable[[], Awaitable[int]]
    issuing: x509.Certificate
    root: x509.Certificate
    root_crl_der: bytes
    buckets: Buckets
    clock: Clock
    metrics: Metrics


def build_app(parts: StatusParts) -> falcon.asgi.App[Any, Any]:
    """Build the application."""
    app = create_app(audience="network", middleware=[_Admission(parts)])
    ocsp = OCSP(parts)
    app.add_route("/ocsp", ocsp)
    app.add_route("/ocsp/{encoded:path}", ocsp, suffix="encoded")
    app.add_route("/crl/{name}", CRLs(parts))
    der = Encoding.DER
    app.add_route("/ca/issuing.cer", _Fixed(parts.issuing.public_bytes(der), CERTIFICATE_TYPE))
    app.add_route("/ca/root.cer", _Fixed(parts.root.public_bytes(der), CERTIFICATE_TYPE))
    app.add_route("/ca/root.crl", _Fixed(parts.root_crl_der, CRL_TYPE))
    app.add_route("/metrics", _Metrics(parts))
    add_health(app)
    return app


class _Admission:
    """Paces requests: a bucket per source address."""

    def __init__(self, parts: StatusParts) -> None:
        self._parts = parts

    async def process_request(self, _req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        check_pace(self._parts.buckets.take(peer_source(), now_ns=self._parts.clock.monotonic_ns()))


class OCSP:
    """OCSP by POST, with the request as body, and by GET, with the request in the path (RFC 6960 appendix
    A.1).
    """

    def __init__(self, parts: StatusParts) -> None:
        self._parts = parts
        self._kept = KeptAnswers(max_bytes=_KEPT_BYTES)

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        body = await read_body(req, content_type=OCSP_REQUEST_TYPE, limit_bytes=MAX_REQUEST_BYTES)
        await self._answer(resp, body)

    async def on_get_encoded(
        self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, encoded: str
    ) -> None:
        try:
            request_der = decode_get(encoded)
        except BadInput:
            # HTTP 200: the error is OCSP's own, and clients look for it in the body.
            resp.content_type, resp.data = OCSP_RESPONSE_TYPE, _MALFORMED
            return
        if await self._answer(resp, request_der):
            resp.set_header("Cache-Control", _CACHED_FOR_A_SECOND)

    async def _answer(self, resp: falcon.asgi.Response, request_der: bytes) -> bool:
        """Answer with what the responder says, or with tryLater; returns whether it answered."""
        resp.content_type = OCSP_RESPONSE_TYPE
        self._parts.metrics.count("ocsp_requests")
        # Before the responder is asked: the answer is as old as the question.
        asked_ns = self._parts.clock.monotonic_ns()
        kept = self._kept.find(request_der, asked_ns)
        if kept is not None:
            resp.data = kept
            return True
        try:
            with self._parts.metrics.stage("ocsp"):
                answer = await self._parts.ask(request_der)
        except Busy:
            resp.data = _TRY_LATER
            return False
        if answer.status is not Status.OK:
            resp.data = _TRY_LATER
            return False
        resp.data = answer.body
        if may_keep(request_der, answer.body):
            self._kept.add(request_der, answer.body, until_ns=asked_ns + KEEP_NS)
        return True


class CRLs:
    """`<shard>.crl`, `complete.crl`, and for software that checks whole chains from one file `bundle.pem`."""

    def __init__(self, parts: StatusParts) -> None:
        self._parts = parts

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str) -> None:
        self._parts.metrics.count("crl_requests")
        with self._parts.metrics.stage("crl"):
            if name == "bundle.pem":
                _send(req, resp, await self._parts.lists.bundle(), "application/x-pem-file")
                return
            match = _SHARD.fullmatch(name)
            if match is None and name != "complete.crl":
                raise NotFound(f"no list {name[:32]!r}: wanted <shard>.crl, complete.crl or bundle.pem")
            crl = await self._parts.lists.shard(COMPLETE if match is None else int(match[1]))
            if crl is None:
                raise NotFound(f"there is no list '{name}' yet")
            resp.last_modified = crl.parts[0].this_update
            _send(req, resp, crl, CRL_TYPE)


def _send(req: falcon.asgi.Request, resp: falcon.asgi.Response, version: Version, content_type: str) -> None:
    # Receivers that poll get 304 until there is another list.
    resp.etag = version.tag
    resp.set_header("Cache-Control", _CACHED_FOR_A_SECOND)
    if any(str(known) in {version.tag, "*"} for known in req.if_none_match or ()):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = content_type
    if version.size_bytes <= PIECE_BYTES:
        resp.data = version.whole()
    else:
        resp.set_stream(version.pieces(), version.size_bytes)


class _Fixed:
    """A file that stays the same as long as this process lives."""

    def __init__(self, content: bytes, content_type: str) -> None:
        self._content = content
        self._content_type = content_type

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.content_type = self._content_type
        resp.set_header("Cache-Control", _CACHED_FOR_A_DAY)
        resp.data = self._content


class _Metrics:
    """This role's metrics, and the feed's newest number; made anew at most every `_METRICS_NS`."""

    def __init__(self, parts: StatusParts) -> None:
        self._parts = parts
        self._made_ns: int | None = None
        self._text = b""

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        now_ns = self._parts.clock.monotonic_ns()
        if self._made_ns is None or now_ns - self._made_ns >= _METRICS_NS:
            newest = await self._parts.last_revocation()
            gauge = f"# TYPE ostiary_ca_revocations_total counter\nostiary_ca_revocations_total {newest}\n"
            self._text = self._parts.metrics.exposition("ostiary_ca_status") + gauge.encode("ascii")
            self._made_ns = now_ns
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.data = self._text
