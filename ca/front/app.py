"""The front's application: every path that the CA answers over HTTPS, and who may ask for it.

docs/openapi.yaml describes the same paths; tests/test_openapi.py holds the two together.
"""

from __future__ import annotations

from typing import Any

import falcon.asgi

from ca.front.agents_api import Agents
from ca.front.certificates_api import Confirm, Prove, Revocations, Revoke, WhoAmI
from ca.front.doorkeeper import SourcePace
from ca.front.est_api import CACerts, CSRAttributes, SimpleEnroll, SimpleReenroll
from ca.front.parts import FrontParts
from ca.store.tables import LEDGER
from ostiary.capabilities import Capability
from ostiary.front.health import add_health, add_readiness
from ostiary.front.http import create_app
from ostiary.front.ledger_api import add_ledger_routes

LEDGER_READ = Capability("ledger:read")


def build_app(parts: FrontParts) -> falcon.asgi.App[Any, Any]:
    """Build the application.

    no credential             cacerts, csrattrs, healthz, readyz
    a token                   simpleenroll
    a pending certificate     prove, confirm, whoami, revoke (itself)
    an active certificate     the rest; agents also needs enroll:node, entries of the ledger need ledger:read

    Every request, whatever it asks for, is paced by its source.
    """

    # A certificate that TLS did not verify ends the request before any middleware (docs/adr/0016); here it is
    # paced and counted.
    def count_unverified(source: str) -> None:
        parts.doorkeeper.check_source_pace()
        parts.doorkeeper.count_stranger(source, "certificate-unverified")

    app = create_app(
        audience="network", middleware=[SourcePace(parts.doorkeeper)], count_unverified=count_unverified
    )
    est = "/.well-known/est"
    app.add_route(f"{est}/cacerts", CACerts(parts))
    app.add_route(f"{est}/csrattrs", CSRAttributes())
    app.add_route(f"{est}/simpleenroll", SimpleEnroll(parts))
    app.add_route(f"{est}/simplereenroll", SimpleReenroll(parts))
    app.add_route("/v1/agents", Agents(parts))
    app.add_route("/v1/certificates/{serial}/prove", Prove(parts))
    app.add_route("/v1/certificates/{serial}/confirm", Confirm(parts))
    app.add_route("/v1/certificates/{serial}/revoke", Revoke(parts))
    app.add_route("/v1/whoami", WhoAmI(parts))
    app.add_route("/v1/revocations", Revocations(parts))
    add_health(app)
    add_readiness(app, parts.readiness)
    app.add_route("/metrics", _Metrics(parts))

    async def admit(_req: falcon.asgi.Request, entries: bool) -> None:  # noqa: FBT001 - the port
        # Checkpoints and proofs are hashes: any agent may audit. Entries name agents and what they did.
        caller = await parts.doorkeeper.identify(act="read-ledger")
        if entries:
            await parts.doorkeeper.require(caller, LEDGER_READ, act="read-ledger", target="entries")

    add_ledger_routes(
        app, "/v1/ledger", engine=parts.engine, tables=LEDGER, admit=admit, offload=parts.offload
    )
    return app


class _Metrics:
    """This role's metrics, for any agent of the application: they are of no use outside."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        await self._parts.doorkeeper.identify(act="metrics")
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.data = self._parts.metrics.exposition("ostiary_ca_front")
