"""Health endpoints: alive is not ready, and what is not ready is named."""

from __future__ import annotations

import falcon.testing
import pytest

from ostiary.front.health import Readiness, add_health, add_readiness
from ostiary.front.http import create_app


def service(**checks: bool) -> falcon.testing.TestClient:
    app = create_app(audience="network")
    add_health(app)
    readiness = Readiness(
        checks=checks, roles_separated=False, facts={"revocations_age_s": 3, "newest": None}
    )

    async def check() -> Readiness:
        return readiness

    add_readiness(app, check)
    return falcon.testing.TestClient(app)


def test_a_ready_service_lists_its_parts_and_facts() -> None:
    answer = service(recorder=True, store=True).simulate_get("/readyz")
    assert answer.status_code == 200
    assert answer.json == {
        "status": "ready",
        "checks": ["recorder", "store"],
        "roles_separated": False,
        "revocations_age_s": 3,
        "newest": None,
    }
    assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("checks", "named"),
    [
        ({"recorder": False, "store": True}, "recorder"),
        ({"recorder": False, "store": False}, "recorder, store"),
    ],
)
def test_a_service_that_is_not_ready_names_the_parts(checks: dict[str, bool], named: str) -> None:
    answer = service(**checks).simulate_get("/readyz")
    assert answer.status_code == 503
    assert answer.json["detail"] == f"not ready: {named}"
    assert int(answer.headers["retry-after"]) >= 1


def test_a_worker_is_alive_whatever_lies_behind_it() -> None:
    answer = service(recorder=False).simulate_get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})
