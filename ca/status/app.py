"""What anybody may fetch over plain HTTP: OCSP, CRLs, the certificates above a leaf, metrics.

Rules:
- Everything here is public, and signed by others, so it needs no TLS; clients expect plain HTTP of AIA and
  CRLDP URLs (RFC 5280 section 8).
- OCSP requests go to the responder's channel, and its answers come back unchanged; this role holds no key.
- A revocation shows within a second, so nothing may be cached longer, except what never changes.

Standard: RFC 6960 appendix A (OCSP over HTTP), RFC 5280 section 4.2.1.13, RFC 2585 section 4 (media types).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import falcon
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.certificates.ocsp import MAX_REQUEST_BYTES, ErrorStatus, decode_get, error_response
from ca.items import COMPLETE
from ca.store.reader import StoreReader
from ostiary.edge.channel import Answer
from ostiary.edge.clock import Clock
from ostiary.edge.frame import Status
from ostiary.edge.metrics import Metrics
from ostiary.errors import BadInput, Busy, NotFound
from ostiary.front.health import add_health
from ostiary.front.http import check_pace, create_app, read_body
from ostiary.front.limits import Buckets
from ostiary.timestamp import moment_of

OCSP_REQUEST_TYPE: Final = "application/ocsp-request"
OCSP_RESPONSE_TYPE: Final = "application/ocsp-response"
CRL_TYPE: Final = "application/pkix-crl"
CERTIFICATE_TYPE: Final = "application/pkix-cert"
STAGES: Final = ("ocsp", "crl")
COUNTERS: Final = ("ocsp_requests", "crl_requests")

_BUNDLE_NS: Final = 200_000_000
"""A fifth of the second within which a revocation shows."""
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
    """The parts that the resources share; `ask` is the responder's channel and raises Busy."""

    reader: StoreReader
    ask: Callable[[bytes], Answer]
    issuing: x509.Certificate
    root: x509.Certificate
    root_crl_der: bytes
    buckets: Buckets
    clock: Clock
    metrics: Metrics


def build_app(parts: StatusParts) -> falcon.App[Any, Any]:
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

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        check_pace(self._parts.buckets.take(str(req.remote_addr), now_ns=self._parts.clock.monotonic_ns()))


class OCSP:
    """OCSP by POST, with the request as body, and by GET, with the request in the path (RFC 6960 appendix
    A.1).
    """

    def __init__(self, parts: StatusParts) -> None:
        self._parts = parts

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        body = read_body(req, content_type=OCSP_REQUEST_TYPE, limit_bytes=MAX_REQUEST_BYTES)
        self._answer(resp, body)

    def on_get_encoded(self, _req: falcon.Request, resp: falcon.Response, encoded: str) -> None:
        try:
            request_der = decode_get(encoded)
        except BadInput:
            # HTTP 200: the error is OCSP's own, and clients look for it in the body.
            resp.content_type, resp.data = OCSP_RESPONSE_TYPE, _MALFORMED
            return
        if self._answer(resp, request_der):
            resp.set_header("Cache-Control", _CACHED_FOR_A_SECOND)

    def _answer(self, resp: falcon.Response, request_der: bytes) -> bool:
        """Answer with what the responder says, or with tryLater; returns whether it answered."""
        resp.content_type = OCSP_RESPONSE_TYPE
        self._parts.metrics.count("ocsp_requests")
        try:
            with self._parts.metrics.stage("ocsp"):
                answer = self._parts.ask(request_der)
        except Busy:
            resp.data = _TRY_LATER
            return False
        answered = answer.status is Status.OK
        resp.data = answer.body if answered else _TRY_LATER
        return answered


class CRLs:
    """`<shard>.crl`, `complete.crl`, and for software that checks whole chains from one file `bundle.pem`."""

    def __init__(self, parts: StatusParts) -> None:
        self._parts = parts
        self._root_pem = _pem(parts.root_crl_der)
        # (when it was made, ns; the bundle). Threads replace it whole; two that come at once both make one.
        self._bundle: tuple[int, bytes] | None = None

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        self._parts.metrics.count("crl_requests")
        with self._parts.metrics.stage("crl"):
            if name == "bundle.pem":
                _send(req, resp, self._bundled(), "application/x-pem-file")
                return
            match = _SHARD.fullmatch(name)
            if match is None and name != "complete.crl":
                raise NotFound(f"no list {name[:32]!r}: wanted <shard>.crl, complete.crl or bundle.pem")
            crl = self._parts.reader.crl(COMPLETE if match is None else int(match[1]))
            if crl is None:
                raise NotFound(f"there is no list '{name}' yet")
            resp.last_modified = moment_of(crl.this_update)
            _send(req, resp, crl.der, CRL_TYPE)

    def _bundled(self) -> bytes:
        """All lists in one file, PEM, made anew at most every `_BUNDLE_NS`: nothing else here costs more than
        its bytes.
        """
        # nginx and curl check the whole chain from one file, so the root's list must be in it.
        now_ns, bundle = self._parts.clock.monotonic_ns(), self._bundle
        if bundle is None or now_ns - bundle[0] >= _BUNDLE_NS:
            lists = self._parts.reader.shard_crls()
            bundle = self._bundle = (now_ns, b"".join([*map(_pem, lists), self._root_pem]))
        return bundle[1]


def _send(req: falcon.Request, resp: falcon.Response, content: bytes, content_type: str) -> None:
    # A strong validator (RFC 9110 section 8.8.3): receivers that poll get 304 until there is another list.
    tag = hashlib.sha256(content).hexdigest()[:32]
    resp.etag = tag
    resp.set_header("Cache-Control", _CACHED_FOR_A_SECOND)
    if any(str(known) in {tag, "*"} for known in req.if_none_match or ()):
        resp.status = falcon.HTTP_304
        return
    resp.content_type = content_type
    resp.data = content


def _pem(der: bytes) -> bytes:
    return x509.load_der_x509_crl(der).public_bytes(Encoding.PEM)


class _Fixed:
    """A file that stays the same as long as this process lives."""

    def __init__(self, content: bytes, content_type: str) -> None:
        self._content = content
        self._content_type = content_type

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        resp.content_type = self._content_type
        resp.set_header("Cache-Control", _CACHED_FOR_A_DAY)
        resp.data = self._content


class _Metrics:
    """This role's metrics, and the feed's newest number."""

    def __init__(self, parts: StatusParts) -> None:
        self._parts = parts

    def on_get(self, _req: falcon.Request, resp: falcon.Response) -> None:
        newest = self._parts.reader.last_revocation()
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        gauge = f"# TYPE ostiary_ca_revocations_total counter\nostiary_ca_revocations_total {newest}\n"
        resp.data = self._parts.metrics.exposition("ostiary_ca_status") + gauge.encode("ascii")
