"""The HTTP resources of a credentials service (falcon): admit the peer, decode, one call, encode.

    GET  /v1/credentials?after=NAME     what the peer may use, at most 100, in order of names
    POST /v1/credentials/{name}/operations/{operation}
                                        {"request": {...}} -> {"release", "formula", "entry", "rule"}
    POST .../batch                      {"requests": [{...}, ...]} -> {"results": [...]}: of each request what
                                        it would be answered alone, or {"problem": {...}}
    POST .../explain                    the holes and the public bindings; nothing is signed
    GET  /v1/ledger/...                 see ostiary.front.ledger_api; policy decides who reads entries
    GET  /metrics                       Prometheus text, for agents that policy lets read the ledger
    GET  /readyz /healthz               any client certificate issued under the application's root

Falcon refuses a wrong path, method or content type; every error is a problem document (ostiary.front.http).
"""

from __future__ import annotations

import contextlib
import time
from time import perf_counter_ns
from typing import Any, Final

import falcon.asgi

from credsvc.front.batch import Outcome
from credsvc.front.listing import list_usable
from credsvc.front.parts import FrontParts
from credsvc.front.requests import (
    MAX_BATCH_BYTES,
    MAX_REQUEST_BYTES,
    RawBatch,
    RawRequest,
    SignRequest,
    check_request,
)
from credsvc.front.source_pace import SourcePace
from credsvc.front.stages import Released
from credsvc.names import parse_credential, parse_operation
from credsvc.policy.decision import Denial
from ostiary.edge.metrics import Metrics
from ostiary.errors import Busy
from ostiary.front.health import Readiness, add_health, add_readiness
from ostiary.front.http import Failure, create_app, failure_of, read_json, write_json

PAGE: Final = 100


def build_app(parts: FrontParts) -> falcon.asgi.App[Any, Any]:
    """The application of one worker."""
    strangers = SourcePace(("/healthz", "/readyz"), monotonic_ns=time.monotonic_ns)
    app = create_app(
        audience="network",
        middleware=[_Timing(parts.metrics), strangers],
        count_unverified=parts.doorkeeper.count_unverified,
    )
    operations = _Operations(parts)
    app.add_route("/v1/credentials", _Credentials(parts))
    app.add_route("/v1/credentials/{name}/operations/{operation}", operations)
    app.add_route("/v1/credentials/{name}/operations/{operation}/batch", operations, suffix="batch")
    app.add_route("/v1/credentials/{name}/operations/{operation}/explain", operations, suffix="explanation")
    add_health(app)
    add_readiness(app, lambda: _readiness(parts))
    app.add_route("/metrics", _Metrics(parts))
    parts.mount_ledger(app, lambda _req, asks_entries: _admit_reader(parts, asks_entries=asks_entries))
    return app


class _Operations:
    def __init__(self, parts: FrontParts) -> None:
        self._doorkeeper = parts.doorkeeper
        self._pipeline = parts.pipeline
        self._batches = parts.batches

    async def on_post(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str, operation: str
    ) -> None:
        write_json(resp, await self._pipeline.sign(await self._request(req, name, operation)))

    async def on_post_explanation(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str, operation: str
    ) -> None:
        write_json(resp, await self._pipeline.explain(await self._request(req, name, operation)))

    async def on_post_batch(
        self, req: falcon.asgi.Request, resp: falcon.asgi.Response, name: str, operation: str
    ) -> None:
        caller = await self._doorkeeper.identify(act="use", target=_target(name, operation))
        raw = await read_json(req, RawBatch, limit_bytes=MAX_BATCH_BYTES)
        # Before any item: names that are none are one mistake, not two hundred.
        parse_credential(name)
        parse_operation(operation)

        def check(request: dict[str, Any]) -> SignRequest:
            self._doorkeeper.check_pace(caller)
            item = RawRequest(request=request)
            return check_request(
                item, peer=caller.peer, agent=caller.agent, credential=name, operation=operation
            )

        outcomes = await self._batches.sign(raw.requests, check)
        write_json(resp, {"results": [_told(outcome) for outcome in outcomes]})

    async def _request(self, req: falcon.asgi.Request, name: str, operation: str) -> SignRequest:
        # The body is read only after the peer was let in.
        caller = await self._doorkeeper.identify(act="use", target=_target(name, operation))
        raw = await read_json(req, RawRequest, limit_bytes=MAX_REQUEST_BYTES)
        return check_request(raw, peer=caller.peer, agent=caller.agent, credential=name, operation=operation)


def _target(name: str, operation: str) -> str:
    # Cut to what a name may have: the target of a revoked peer is recorded before the names are checked.
    return f"{name[:100]}/{operation[:63]}"


def _told(outcome: Outcome) -> Released | Failure:
    return failure_of(outcome, audience="network") if isinstance(outcome, Exception) else outcome


class _Credentials:
    def __init__(self, parts: FrontParts) -> None:
        self._doorkeeper = parts.doorkeeper
        self._catalog = parts.catalog

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        caller = await self._doorkeeper.identify(act="list", target="credentials")
        page, next_after = await self._catalog.page(after=req.get_param("after") or "", limit=PAGE)
        shown = await list_usable(caller.agent, page, monotonic_s=time.monotonic)
        write_json(resp, {"credentials": shown, "next_after": next_after})


async def _readiness(parts: FrontParts) -> Readiness:
    """Ready once the CA has answered: before that nobody can be let in."""
    age_s = parts.revocations.age_s()
    policy: str | None = None
    with contextlib.suppress(Busy):
        policy = (await parts.catalog.judge()).digest
    return Readiness(
        checks={"revocations": age_s is not None, "store": policy is not None},
        roles_separated=parts.separated,
        facts={"revocation_age": age_s, "policy": policy},
    )


class _Metrics:
    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await _admit_reader(self._parts, asks_entries=True)
        resp.content_type = "text/plain; version=0.0.4"
        resp.data = self._parts.metrics.exposition("ostiary_credentials")


async def _admit_reader(parts: FrontParts, *, asks_entries: bool) -> None:
    """Any agent may read hashes and checkpoints; Forbidden unless policy lets it read entries."""
    caller = await parts.doorkeeper.identify(act="read", target=parts.origin)
    if not asks_entries:
        return
    decision = (await parts.catalog.judge()).may_read(caller.agent, parts.origin)
    if isinstance(decision, Denial):
        await parts.refuser.refuse(
            caller.peer, act="read", target=parts.origin, rule=decision.rule, reason=decision.reason
        )


class _Timing:
    """Measures what falcon and all below it take; TLS and gunicorn are what a client measures beyond that."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    async def process_request(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response) -> None:
        req.context.begun_ns = perf_counter_ns()

    async def process_response(
        self, req: falcon.asgi.Request, _resp: falcon.asgi.Response, _resource: object, *_outcome: object
    ) -> None:
        begun_ns = getattr(req.context, "begun_ns", None)
        if begun_ns is not None:
            self._metrics.observe("request", perf_counter_ns() - begun_ns)
