"""The resources over a door, a catalog and a ledger in memory: who may read what, and what is recorded of
those who may not.
"""

from __future__ import annotations

import asyncio
from typing import Any, cast

import falcon.asgi
import falcon.testing
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from credsvc.front.app import build_app
from credsvc.front.catalog import Catalog
from credsvc.front.doorkeeper import CALLER, Doorkeeper, KnownPeer, Refuser
from credsvc.front.parts import FrontParts
from credsvc.front.stages import STAGES
from credsvc.policy.judge import Judge
from ostiary.edge.metrics import Metrics
from ostiary.front.limits import Limit
from ostiary.front.peer import Peer
from ostiary.front.refusals import RefusalCounter
from ostiary.names import parse_application
from ostiary.peer import read_peer
from ostiary.work.reports import Refusals, Refuse
from tests.support.asgi import peer_from, seen_by
from tests.support.credentials_front import REQUEST, FixedClock, MemoryRecorder, World, subject, world
from tests.support.identities import Authority

ORIGIN = "shop.example/credentials"


class Nobody:
    def is_revoked(self, serial_number: int) -> bool:
        return False

    def age_s(self) -> int | None:
        return 1


class OneJudge:
    """A catalog of which only the policies are asked for."""

    async def judge(self) -> Judge:
        return subject().judge


def client(
    recorder: MemoryRecorder,
    *capabilities: str,
    refusals: RefusalCounter | None = None,
    peer: Peer | None = None,
    limit: Limit = CALLER,
    made: World | None = None,
) -> falcon.testing.TestClient:
    agent = Authority().agent("component", capabilities=capabilities)
    known = KnownPeer(read_peer(agent.certificate.public_bytes(Encoding.DER)))
    refuser = Refuser(recorder, FixedClock())

    def mount_ledger(app: falcon.asgi.App[Any, Any], admit: Any) -> None:
        class Ledger:
            async def on_get(self, req: falcon.asgi.Request, _resp: falcon.asgi.Response, what: str) -> None:
                await admit(req, what == "entries")

        app.add_route("/v1/ledger/{what}", Ledger())

    made = made or world()
    parts = FrontParts(
        doorkeeper=Doorkeeper(
            application=parse_application("shop.example"),
            revocations=Nobody(),
            refuser=refuser,
            refusals=refusals or RefusalCounter(),
            clock=FixedClock(),
            limit=limit,
            read=lambda: known,
        ),
        refuser=refuser,
        catalog=cast("Catalog", OneJudge()),
        pipeline=made.pipeline,
        batches=made.batches,
        revocations=Nobody(),
        metrics=Metrics(stages=STAGES, counters=("denied",), processes=1),
        origin=ORIGIN,
        separated=True,
        mount_ledger=mount_ledger,
    )
    return falcon.testing.TestClient(seen_by(peer or peer_from("192.0.2.1"), build_app(parts)))


@pytest.mark.parametrize("path", ["/v1/ledger/entries", "/metrics"])
def test_who_may_not_read_is_refused_and_recorded(path: str) -> None:
    recorder = MemoryRecorder()
    answer = client(recorder, "credential:use").simulate_get(path)
    assert (answer.status_code, answer.json["rule"]) == (403, "read-needs-capability")
    (item,) = recorder.items
    assert isinstance(item, Refuse)
    assert (item.act, item.target, item.rule) == ("read", ORIGIN, "read-needs-capability")


@pytest.mark.parametrize("path", ["/v1/ledger/entries", "/metrics"])
def test_who_holds_the_capability_reads(path: str) -> None:
    recorder = MemoryRecorder()
    assert client(recorder, "ledger:read").simulate_get(path).status_code == 200
    assert not recorder.items


def test_a_certificate_that_did_not_verify_is_counted_and_nobodys() -> None:
    refusals, recorded = RefusalCounter(), list[Refusals]()
    peer = peer_from("192.0.2.1", certificate=b"", problem="it has expired")
    asked = client(MemoryRecorder(), "ledger:read", refusals=refusals, peer=peer)
    assert asked.simulate_get("/v1/ledger/checkpoint").status_code == 401

    async def record(row: Refusals) -> None:
        recorded.append(row)

    asyncio.run(refusals.flush(record))
    assert recorded == [Refusals(source="192.0.2.1", reason="certificate-unverified", count=1)]


def test_hashes_are_for_every_agent() -> None:
    assert client(MemoryRecorder()).simulate_get("/v1/ledger/checkpoint").status_code == 200


BATCH = "/v1/credentials/billing-aws/operations/sign/batch"


def test_each_item_of_a_batch_has_its_result_in_its_place() -> None:
    recorder = MemoryRecorder()
    asked = client(recorder, "credential:use", limit=Limit(rate_per_s=1, burst=4))
    requests = [REQUEST, REQUEST | {"method": "PUT"}, {"n": 2**60}, REQUEST]
    answer = asked.simulate_post(BATCH, json={"requests": requests})
    assert answer.status_code == 200, answer.text
    signed, denied, bad, late = answer.json["results"]
    assert signed["release"] == {"header.authorization": "AWS4 ..."}
    assert (denied["problem"]["status"], denied["problem"]["rule"]) == (403, "default-deny")
    assert (bad["problem"]["status"], bad["problem"]["field"]) == (400, "request")
    # The call itself was counted, too.
    assert (late["problem"]["status"], late["retry_after_s"]) == (429, 1)
    assert "retry_after_s" not in denied


def test_a_fault_of_ours_is_told_in_a_batch_as_alone(caplog: pytest.LogCaptureFixture) -> None:
    made = world()

    async def broken(*_asked: object) -> list[object]:
        raise RuntimeError("a secret in a message")

    made.sandbox.run_many = broken  # type: ignore[method-assign,assignment]
    asked = client(MemoryRecorder(), "credential:use", made=made)
    answer = asked.simulate_post(BATCH, json={"requests": [REQUEST]})
    assert answer.status_code == 500
    assert "secret" not in answer.text + caplog.text


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"requests": []}, 400, "requests"),
        ({"requests": [{}] * 257}, 400, "requests"),
        ({"requests": [1]}, 400, "requests[0]"),
        ({"request": {}}, 400, "request"),
        ({"requests": [{"x": "y" * (1 << 20)}]}, 413, None),
    ],
    ids=["none", "too many", "no object", "another member", "too long"],
)
def test_what_is_no_batch_is_refused_as_one(body: object, status: int, field: str | None) -> None:
    recorder = MemoryRecorder()
    answer = client(recorder, "credential:use").simulate_post(BATCH, json=body)
    assert (answer.status_code, answer.json.get("field")) == (status, field)
    assert not recorder.items


def test_a_name_that_is_none_is_one_mistake_of_a_batch() -> None:
    path = BATCH.replace("billing-aws", "Billing")
    answer = client(MemoryRecorder(), "credential:use").simulate_post(path, json={"requests": [REQUEST] * 2})
    assert (answer.status_code, answer.json["field"]) == (400, "credential")
