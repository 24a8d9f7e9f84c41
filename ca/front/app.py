"""The front's application: every path that the CA answers over HTTPS, and who may ask for it.

docs/openapi.yaml describes the same paths; tests/test_openapi.py holds the two together.
"""

from __future__ import annotations

from typing import Any

import falcon

from ca.front.agents_api import Agents
from ca.front.certificates_api import Confirm, Prove, Revocations, Revoke, WhoAmI
from ca.front.est_api import CACerts, CSRAttributes, SimpleEnroll, SimpleReenroll
from ca.front.parts import FrontParts
from ca.store.tables import LEDGER
from ostiary.capabilities import Capability
from ostiary.front.health import add_health, add_readiness
from ostiary.front.http import create_app
from ostiary.front.ledger_api import add_ledger_routes

LEDGER_READ = Capability("ledger:read")


def build_app(parts: FrontParts) -> falcon.App[Any, Any]:
    """Build the application.

    no credential             cacerts, csrattrs, healthz, readyz
    a token                   simpleenroll
    a pending certificate     prove, confirm, whoami, revoke (itself)
    an active certificate     the rest; agents also needs enroll:node, entries of the ledger need ledger:read
    """

    # A certificate that TLS did not verify ends the request before it is routed (docs/adr/0016); here it is
    # counted.
    def count_unverified(source: str) -> None:
        parts.doorkeeper.count_stranger(source, "certificate-unverified")

    app = create_app(audience="network", count_unverified=count_unverified)
    est = "/.well-known/est"
    app.add_route(f"{est}/cacerts", CACerts(parts))
    app.add_route(f"{est}/csrattrs", CSRAttributes(parts))
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

    def admit(req: falcon.Request, entries: bool) -> None:  # noqa: FBT001 - the port
        # Checkpoints and proofs are hashes: any agent may audit. Entries name agents and what they did.
        caller = parts.doorkeeper.identify(req, act="read-ledger")
        if entries:
            parts.doorkeeper.require(caller, LEDGER_READ, act="read-ledger", target="entries")

    add_ledger_routes(app, "/v1/ledger", engine=parts.reader.engine, tables=LEDGER, admit=admit)
    return app


class _Metrics:
    """This role's metrics, for any agent of the application: they are of no use outside."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._parts.doorkeeper.identify(req, act="metrics")
        resp.content_type = "text/plain; version=0.0.4; charset=utf-8"
        resp.data = self._parts.metrics.exposition("ostiary_ca_front")
