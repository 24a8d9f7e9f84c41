"""What identifies nobody has a pace: of each source, on the routes that were named."""

from __future__ import annotations

from typing import Any

import falcon.asgi
import falcon.testing

from credsvc.front.source_pace import SourcePace
from ostiary.front.health import add_health
from ostiary.front.http import create_app
from ostiary.front.limits import Limit
from tests.support.asgi import peer_from, seen_by


class Other:
    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        resp.text = "other"


class Front:
    """An application with a clock in hand."""

    def __init__(self) -> None:
        self.now_s = 0
        pace = SourcePace(
            ["/healthz"],
            monotonic_ns=lambda: self.now_s * 10**9,
            limit=Limit(rate_per_s=1, burst=2),
        )
        self.app: Any = create_app(audience="network", middleware=[pace])
        add_health(self.app)
        self.app.add_route("/other", Other())

    def ask(self, path: str = "/healthz", *, source: str = "192.0.2.1") -> falcon.testing.Result:
        return falcon.testing.TestClient(seen_by(peer_from(source), self.app)).simulate_get(path)


def test_a_source_that_asks_too_often_is_told_when_to_come_again() -> None:
    front = Front()
    assert [front.ask().status_code for _ in range(3)] == [200, 200, 429]
    assert front.ask().headers["retry-after"] == "1"
    front.now_s += 1
    assert [front.ask().status_code for _ in range(2)] == [200, 429]


def test_others_and_other_routes_have_theirs() -> None:
    front = Front()
    for _ in range(3):
        front.ask()
    assert front.ask(source="192.0.2.2").status_code == 200
    assert front.ask("/other").status_code == 200
    assert front.ask("/nowhere").status_code == 404
