"""HTTP as every service speaks it: JSON in, JSON out, and every error a problem document (RFC 9457).

Rules:
- `ostiary.edge.problems` decides what a problem document says; nothing internal leaves through here.
- A body has a limit and the content type that the resource wants; it may be chunked (RFC 9112 section 7.1).
- JSON is decoded strictly (`ostiary.edge.strict_json`); a type error names the member at fault as `field`.
- Nothing may be cached unless a resource says so: `Cache-Control: no-store` is the default.
- An unexpected exception becomes a 500 that says nothing of it. The log gets its type and place under the
  request's id, never its message, which may quote a secret.
"""

from __future__ import annotations

import logging
import math
import os
import traceback
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any, Final, TypeVar

import falcon
import falcon.asgi
import msgspec

from ostiary.edge.problems import PROBLEM_TYPE, PROBLEM_URN, Audience, Problem, problem_of, problem_of_status
from ostiary.edge.strict_json import decode_json
from ostiary.errors import BadInput, Busy, InternalFault, OstiaryError, Unauthenticated
from ostiary.front.peer import peer_certificate, peer_source

T = TypeVar("T")

DEFAULT_BODY_BYTES: Final = 64 << 10
_log = logging.getLogger("ostiary.front")

# A path is the client's text: a log line takes the beginning, enough for every route of ours.
_LOGGED_PATH: Final = 128
_LOGGED_FRAMES: Final = 8


def create_app(
    *,
    audience: Audience,
    middleware: Iterable[Any] = (),
    count_unverified: Callable[[str], None] | None = None,
) -> falcon.asgi.App[Any, Any]:
    """Return a falcon application that answers every error with a problem document; add routes to it.

    A client whose certificate does not verify gets 401 for every request; `count_unverified` is called with
    its address.
    """
    # The order is falcon's: requests pass the stack downwards, and _VerifiedPeers comes before routing and
    # before any middleware of a service that looks at the peer.
    stack: list[Any] = [_Headers(), _VerifiedPeers(count_unverified), *middleware]
    app: falcon.asgi.App[Any, Any] = falcon.asgi.App(media_type="application/json", middleware=stack)
    errors = _Errors(audience)
    app.set_error_serializer(_serialize_http_error)
    app.add_error_handler(Exception, errors.on_unexpected)
    app.add_error_handler(falcon.HTTPError, errors.on_http_error)
    app.add_error_handler(OstiaryError, errors.on_ostiary_error)
    app.req_options.strip_url_path_trailing_slash = False
    return app


async def read_body(req: falcon.asgi.Request, *, content_type: str, limit_bytes: int) -> bytes:
    """Read the whole body.

    1. The content type is the one that the resource wants, else 415.
    2. The length that was announced is within the limit, else 413.
    3. The bytes that come are within the limit too, else 413: a chunked body announces nothing.
    4. The client sends all of it, else `BadInput`.

    The connection bounds the time (`ostiary.front.connection`).
    """
    # 1. Parameters such as charset change nothing: JSON is UTF-8 (RFC 8259 section 8.1).
    given = (req.content_type or "").partition(";")[0].strip().lower()
    if given != content_type:
        raise falcon.HTTPUnsupportedMediaType(description=f"the body must be {content_type}")
    # 2. Before a byte is asked for: a client that expects 100 (Continue) then sends none.
    if req.content_length is not None and req.content_length > limit_bytes:
        raise _too_large(limit_bytes)
    # 3.
    parts: list[bytes] = []
    left_bytes = limit_bytes
    async for part in req.stream:
        left_bytes -= len(part)
        if left_bytes < 0:
            raise _too_large(limit_bytes)
        parts.append(part)
    body = b"".join(parts)
    # 4. The client left; what there is could be valid JSON by accident.
    if req.content_length is not None and len(body) != req.content_length:
        raise BadInput("the body is shorter than its Content-Length")
    return body


def _too_large(limit_bytes: int) -> falcon.HTTPError:
    return falcon.HTTPContentTooLarge(description=f"the body may have at most {limit_bytes} bytes")


async def read_json(req: falcon.asgi.Request, type_: type[T], *, limit_bytes: int = DEFAULT_BODY_BYTES) -> T:
    """Decode the body into a msgspec type, which should forbid unknown fields."""
    body = await read_body(req, content_type="application/json", limit_bytes=limit_bytes)
    return decode_json(body, type_)


def check_pace(wait_s: float) -> None:
    """Raise 429 with Retry-After unless `wait_s`, as a bucket of `ostiary.front.limits` returns it, is 0."""
    # Rounded up: Retry-After has whole seconds (RFC 9110 section 10.2.3), and a client that comes back early
    # is refused again.
    if wait_s > 0:
        raise falcon.HTTPTooManyRequests(headers={"Retry-After": str(max(1, math.ceil(wait_s)))})


def write_json(resp: falcon.asgi.Response, value: object) -> None:
    """Answer with `value` (a msgspec Struct, dict or list) as JSON."""
    resp.content_type = "application/json"
    resp.data = msgspec.json.encode(value)


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a client reads in the place of one result among several; `retry_after_s` is of 429 and 503."""

    problem: Problem
    retry_after_s: int | None = None


def failure_of(error: Exception, *, audience: Audience) -> Failure:
    """Return what a request of its own would have been answered, and log what is a fault of ours."""
    if isinstance(error, falcon.HTTPError):
        wait = (dict(error.headers or {})).get("Retry-After")
        return Failure(
            problem=_problem_of_http_error(error), retry_after_s=None if wait is None else int(wait)
        )
    instance = _instance()
    if not isinstance(error, OstiaryError):
        _log_unexpected(error, instance)
        error = InternalFault("unexpected")
    elif isinstance(error, InternalFault):
        _log.error("request-failed", extra={"instance": instance, "problem": error.message})
    return Failure(
        problem=problem_of(error, audience=audience, instance=instance),
        retry_after_s=error.retry_after_s if isinstance(error, Busy) else None,
    )


class _Headers:
    """Headers of every response; those that a resource sets take precedence."""

    async def process_response(
        self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, _resource: object, *_outcome: object
    ) -> None:
        if resp.get_header("Cache-Control") is None:
            resp.set_header("Cache-Control", "no-store")
        resp.set_header("X-Content-Type-Options", "nosniff")


class _VerifiedPeers:
    """Refuses a request, before anything else, if its client certificate did not verify."""

    def __init__(self, count_unverified: Callable[[str], None] | None) -> None:
        self._count_unverified = count_unverified

    async def process_request(self, _req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        try:
            peer_certificate()
        except Unauthenticated:
            if self._count_unverified is not None:
                self._count_unverified(peer_source())
            raise


class _Errors:
    """The error handlers of one application."""

    def __init__(self, audience: Audience) -> None:
        self._audience: Audience = audience

    async def on_ostiary_error(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        error: OstiaryError,
        _params: dict[str, Any],
    ) -> None:
        instance = _instance()
        problem = problem_of(error, audience=self._audience, instance=instance)
        if problem.status == 500:
            _log.error("request-failed", extra={"instance": instance, "problem": error.message})
        else:
            _log_refusal(req, problem)
        if isinstance(error, Busy):
            resp.set_header("Retry-After", str(error.retry_after_s))
        if problem.status == 401:
            # A 401 must name a scheme (RFC 9110 section 15.5.2). Basic carries tokens (RFC 7030 section
            # 3.2.3); a client certificate has no scheme of its own.
            resp.set_header("WWW-Authenticate", 'Basic realm="ostiary", charset="UTF-8"')
        _write_problem(resp, problem)

    async def on_http_error(
        self,
        req: falcon.asgi.Request,
        resp: falcon.asgi.Response,
        error: falcon.HTTPError,
        _params: dict[str, Any],
    ) -> None:
        resp.status = error.status
        for name, value in dict(error.headers or {}).items():
            resp.set_header(name, value)
        _log_refusal(req, _problem_of_http_error(error))
        _serialize_http_error(req, resp, error)

    async def on_unexpected(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, error: Exception, _params: dict[str, Any]
    ) -> None:
        instance = _instance()
        _log_unexpected(error, instance, method=req.method)
        fault = problem_of(InternalFault("unexpected"), audience=self._audience, instance=instance)
        _write_problem(resp, fault)


def _serialize_http_error(
    _req: falcon.asgi.Request, resp: falcon.asgi.Response, error: falcon.HTTPError
) -> None:
    """Answer falcon's own errors (404, 405, 413, ...) as problem documents, in words of ours only."""
    _write_problem(resp, _problem_of_http_error(error))


def _problem_of_http_error(error: falcon.HTTPError) -> Problem:
    # Those that `read_body` raises; falcon's own texts may quote the request.
    detail = error.description if error.description and error.status_code in {413, 415} else ""
    return problem_of_status(error.status_code, HTTPStatus(error.status_code).phrase, detail)


def _log_unexpected(error: Exception, instance: str, **more: str) -> None:
    """Log an exception's type and place; its message may quote a secret."""
    frames = traceback.extract_tb(error.__traceback__)[-_LOGGED_FRAMES:]
    where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
    told = {"instance": instance, "error": type(error).__name__, "where": where, **more}
    _log.error("unexpected-exception", extra=told)


def _log_refusal(req: falcon.asgi.Request, problem: Problem) -> None:
    """Log what was refused and why: the path, which is public, but neither query nor body."""
    _log.info(
        "request-refused",
        extra={
            "status": problem.status,
            "problem": problem.type.removeprefix(PROBLEM_URN),
            "detail": problem.detail,
            "field": problem.field,
            "method": req.method,
            "path": req.path[:_LOGGED_PATH],
            "source": peer_source(),
        },
    )


def _write_problem(resp: falcon.asgi.Response, problem: Problem) -> None:
    resp.status = falcon.code_to_http_status(problem.status)
    resp.content_type = PROBLEM_TYPE
    resp.data = msgspec.json.encode(problem)
    resp.set_header("Cache-Control", "no-store")


def _instance() -> str:
    return f"urn:ostiary:request:{os.urandom(8).hex()}"
