"""Health endpoints, the same for every service.

- `/healthz`: this worker answers (liveness).
- `/readyz`: everything behind it answers too (readiness); 503 with Retry-After while a check fails, naming
  the parts that are not ready.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import falcon.asgi

from ostiary.errors import Busy
from ostiary.front.http import write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What is ready, by part. `facts` are reported unchanged and decide nothing."""

    checks: Mapping[str, bool]
    roles_separated: bool
    facts: Mapping[str, str | int | None] = field(default_factory=dict)


def add_health(app: falcon.asgi.App[Any, Any]) -> None:
    """Add `/healthz`."""
    app.add_route("/healthz", _Health())


def add_readiness(app: falcon.asgi.App[Any, Any], readiness: Callable[[], Awaitable[Readiness]]) -> None:
    """Add `/readyz`; `readiness` is called for each request and raises nothing."""
    app.add_route("/readyz", _Ready(readiness))


class _Health:
    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        write_json(resp, {"status": "ok"})


class _Ready:
    def __init__(self, readiness: Callable[[], Awaitable[Readiness]]) -> None:
        self._readiness = readiness

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        found = await self._readiness()
        missing = [part for part, ready in found.checks.items() if not ready]
        if missing:
            raise Busy(f"not ready: {', '.join(missing)}")
        report = {"status": "ready", "checks": list(found.checks), "roles_separated": found.roles_separated}
        write_json(resp, report | dict(found.facts))
