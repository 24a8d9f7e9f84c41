"""The HTTP resources of a credentials service (falcon): admit the peer, decode, one call, encode.

    GET  /v1/credentials?after=NAME     what the peer may use, at most 100, in order of names
    POST /v1/credentials/{name}/operations/{operation}
                                        {"request": {...}} -> {"release", "formula", "entry", "rule"}
    POST .../explain                    the holes and the public bindings; nothing is signed
    GET  /v1/ledger/...                 see ostiary.front.ledger_api; policy decides who reads entries
    GET  /metrics                       Prometheus text, for agents that policy lets read the ledger
    GET  /readyz /healthz               any client certificate issued under the application's root

Falcon refuses a wrong path, method or content type; every error is a problem document (ostiary.front.http).
"""

from __future__ import annotations

import contextlib
from time import perf_counter_ns
from typing import Any, Final

import falcon
import msgspec

from credsvc.front.catalog import Subject
from credsvc.front.doorkeeper import Caller
from credsvc.front.parts import FrontParts
from credsvc.front.requests import MAX_REQUEST_BYTES, RawRequest, SignRequest, check_request
from credsvc.policy.decision import Denial
from credsvc.policy.schema import action_name
from ostiary.edge.metrics import Metrics
from ostiary.errors import Busy
from ostiary.front.health import Readiness, add_health, add_readiness
from ostiary.front.http import create_app, read_json, write_json

PAGE: Final = 100


class CredentialSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that the peer may use in some way; nothing confidential is known here."""

    name: str
    module: str
    version: int
    operations: list[str]
    shareable: dict[str, str]


def build_app(parts: FrontParts) -> falcon.App[Any, Any]:
    """The WSGI application of one worker."""
    timing = _Timing(parts.metrics)
    app = create_app(
        audience="network", middleware=[timing], count_unverified=parts.doorkeeper.count_unverified
    )
    operations = _Operations(parts)
    app.add_route("/v1/credentials", _Credentials(parts))
    app.add_route("/v1/credentials/{name}/operations/{operation}", operations)
    app.add_route("/v1/credentials/{name}/operations/{operation}/explain", operations, suffix="explanation")
    add_health(app)
    add_readiness(app, lambda: _readiness(parts))
    app.add_route("/metrics", _Metrics(parts))
    parts.mount_ledger(app, lambda req, asks_entries: _admit_reader(parts, req, asks_entries=asks_entries))
    return app


class _Operations:
    def __init__(self, parts: FrontParts) -> None:
        self._doorkeeper = parts.doorkeeper
        self._pipeline = parts.pipeline

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str, operation: str) -> None:
        write_json(resp, self._pipeline.sign(self._request(req, name, operation)))

    def on_post_explanation(
        self, req: falcon.Request, resp: falcon.Response, name: str, operation: str
    ) -> None:
        write_json(resp, self._pipeline.explain(self._request(req, name, operation)))

    def _request(self, req: falcon.Request, name: str, operation: str) -> SignRequest:
        # Cut to what a name may have: the target of a revoked peer is recorded before the names are checked.
        # The body is read only after the peer was let in.
        caller = self._doorkeeper.identify(req.env, act="use", target=f"{name[:100]}/{operation[:63]}")
        raw = read_json(req, RawRequest, limit_bytes=MAX_REQUEST_BYTES)
        return check_request(raw, peer=caller.peer, agent=caller.agent, credential=name, operation=operation)


class _Credentials:
    def __init__(self, parts: FrontParts) -> None:
        self._doorkeeper = parts.doorkeeper
        self._catalog = parts.catalog

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        caller = self._doorkeeper.identify(req.env, act="list", target="credentials")
        page, next_after = self._catalog.page(after=req.get_param("after") or "", limit=PAGE)
        shown = [summary for subject in page if (summary := _summary(caller, subject)) is not None]
        write_json(resp, {"credentials": shown, "next_after": next_after})


def _summary(caller: Caller, subject: Subject) -> CredentialSummary | None:
    """What the peer sees of a credential; None where policy allows it no operation in any context."""
    # `preview`, as in the pipeline's first decision: what is listed may still be refused for what it asks.
    credential, manifest = subject.credential, subject.module.manifest
    operations = [
        operation
        for operation in manifest.operations
        if not isinstance(
            subject.judge.preview(caller.agent, action_name(manifest.name, operation), credential.entity),
            Denial,
        )
    ]
    if credential.disabled or not operations:
        return None
    return CredentialSummary(
        name=credential.entity.name,
        module=manifest.name,
        version=credential.version,
        operations=operations,
        shareable=dict(credential.shareable),
    )


def _readiness(parts: FrontParts) -> Readiness:
    """Ready once the CA has answered: before that nobody can be let in."""
    age_s = parts.revocations.age_s()
    policy: str | None = None
    with contextlib.suppress(Busy):
        policy = parts.catalog.judge.digest
    return Readiness(
        checks={"revocations": age_s is not None, "store": policy is not None},
        roles_separated=parts.separated,
        facts={"revocation_age": age_s, "policy": policy},
    )


class _Metrics:
    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        _admit_reader(self._parts, req, asks_entries=True)
        resp.content_type = "text/plain; version=0.0.4"
        resp.data = self._parts.metrics.exposition("ostiary_credentials")


def _admit_reader(parts: FrontParts, req: falcon.Request, *, asks_entries: bool) -> None:
    """Any agent may read hashes and checkpoints; Forbidden unless policy lets it read entries."""
    caller = parts.doorkeeper.identify(req.env, act="read", target=parts.origin)
    if not asks_entries:
        return
    decision = parts.catalog.judge.may_read(caller.agent, parts.origin)
    if isinstance(decision, Denial):
        parts.refuser.refuse(
            caller.peer, act="read", target=parts.origin, rule=decision.rule, reason=decision.reason
        )


class _Timing:
    """Measures what falcon and all below it take; TLS and gunicorn are what a client measures beyond that."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def process_request(self, req: falcon.Request, _resp: falcon.Response) -> None:
        req.context.begun_ns = perf_counter_ns()

    def process_response(
        self, req: falcon.Request, _resp: falcon.Response, _resource: object, *_outcome: object
    ) -> None:
        begun_ns = getattr(req.context, "begun_ns", None)
        if begun_ns is not None:
            self._metrics.observe("request", perf_counter_ns() - begun_ns)
