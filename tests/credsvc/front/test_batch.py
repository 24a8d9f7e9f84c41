"""Many uses in one call: each allowed, refused, counted and recorded by itself, and no other's failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import falcon
import msgspec
import pytest

from credsvc.front import batch
from credsvc.front.batch import IN_FLIGHT, SLICE_S, Batches, Outcome
from credsvc.front.requests import SignRequest
from credsvc.front.stages import GUESSABLE, Released, Stages
from credsvc.items import Use
from credsvc.policy.cedar import PolicySet
from credsvc.sandbox.client.faults import Fault, ModuleRefused, SandboxBusy, fault
from ostiary.errors import BadInput, Busy, Forbidden
from ostiary.work.answer import Recorded
from ostiary.work.item import Item
from ostiary.work.reports import Refuse
from tests.support.credentials_front import POLICY, World, sign_request, subject, world


def passed(request: SignRequest) -> SignRequest:
    return request


def sign(
    made: World, *requests: SignRequest, check: Callable[[SignRequest], SignRequest] = passed
) -> list[Outcome]:
    return asyncio.run(made.batches.sign(requests, check))


def paths(count: int) -> list[SignRequest]:
    return [
        sign_request(url=f"https://billing.s3.eu-north-1.amazonaws.com/{number}") for number in range(count)
    ]


def uses(made: World) -> list[Use]:
    return [item for item in made.recorder.items if isinstance(item, Use)]


def kinds(outcomes: Sequence[Outcome]) -> list[str]:
    return [type(outcome).__name__ for outcome in outcomes]


def test_each_item_is_a_use_of_its_own_in_one_turn_of_the_sandbox() -> None:
    made = world()
    outcomes = sign(made, *paths(5))
    assert kinds(outcomes) == ["Released"] * 5
    assert [use.holes["path"] for use in uses(made)] == [f"/{number}" for number in range(5)]
    assert [outcome.entry for outcome in outcomes if isinstance(outcome, Released)] == list(range(5))
    assert (made.sandbox.turns, made.sandbox.runs) == (1, 5)


def test_items_that_rules_do_not_tell_apart_cost_one_decision(monkeypatch: pytest.MonkeyPatch) -> None:
    decided: list[Any] = []
    decide = PolicySet.decide_use

    def counted(policies: PolicySet, *asked: Any) -> Any:
        decided.append(asked)
        return decide(policies, *asked)

    monkeypatch.setattr(PolicySet, "decide_use", counted)
    assert kinds(sign(world(), *paths(50))) == ["Released"] * 50
    assert len(decided) == 1


def test_what_one_item_runs_into_is_its_own() -> None:
    made = world()
    outcomes = sign(
        made,
        sign_request(),
        sign_request(method="DELETE"),  # policy allows it nothing
        sign_request(url="no url"),  # the module refuses it
        sign_request(region="eu north"),  # outside of the hole's type
        sign_request(),
    )
    assert kinds(outcomes) == ["Released", "Forbidden", "ModuleRefused", "BadInput", "Released"]
    assert len(uses(made)) == 2
    (refused,) = [item for item in made.recorder.items if isinstance(item, Refuse)]
    assert (refused.target, refused.rule) == ("billing-aws/sign", "default-deny")


def test_a_credential_that_may_not_be_used_is_refused_and_recorded_for_each() -> None:
    made = world(subject(disabled=True))
    outcomes = sign(made, *paths(3))
    assert [outcome.rule for outcome in outcomes if isinstance(outcome, Forbidden)] == [
        "credential-disabled"
    ] * 3
    assert len(made.recorder.items) == 3
    assert made.sandbox.turns == 0


def test_an_item_beyond_the_pace_is_refused_alone() -> None:
    taken: list[SignRequest] = []

    def check(request: SignRequest) -> SignRequest:
        taken.append(request)
        if len(taken) == 2:
            raise falcon.HTTPTooManyRequests
        if len(taken) == 3:
            raise BadInput("nested deeper", field="request")
        return request

    made = world()
    assert kinds(sign(made, *paths(4), check=check)) == [
        "Released",
        "HTTPTooManyRequests",
        "BadInput",
        "Released",
    ]
    assert len(uses(made)) == 2


def test_what_lets_passwords_be_tried_has_its_pace_in_a_batch_too() -> None:
    made = world(subject(guessable=True))
    outcomes = sign(made, *paths(GUESSABLE.burst + 2))
    assert kinds(outcomes).count("HTTPTooManyRequests") == 2
    assert len(uses(made)) == GUESSABLE.burst


def test_what_moved_is_tried_once_more() -> None:
    made = world(stale=2)
    made.catalog.successor = subject()
    assert kinds(sign(made, *paths(3))) == ["Released"] * 3
    assert (len(uses(made)), made.sandbox.turns) == (5, 2)


def test_what_moves_again_and_again_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world(stale=9)

    async def always(_credential: str, _seen: object) -> bool:
        return True

    monkeypatch.setattr(made.catalog, "has_moved", always)
    outcomes = sign(made, *paths(2))
    assert kinds(outcomes) == ["Moved"] * 2
    assert isinstance(outcomes[0], Busy)


def test_what_was_read_anew_between_two_items_is_not_mixed(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    old, new = subject(), subject(policy=f"// another text\n{POLICY}")
    found = iter([old, old, new, new, new])

    async def find(_credential: str) -> object:
        return next(found)

    monkeypatch.setattr(made.catalog, "find", find)
    assert kinds(sign(made, *paths(3))) == ["Released"] * 3
    assert {use.policy_digest for use in uses(made)} == {old.judge.digest, new.judge.digest}
    assert made.sandbox.turns == 2


def test_an_answer_that_could_be_too_large_is_refused_before_anything_is_recorded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "MAX_ANSWER_BYTES", 3000)
    made = world()
    assert kinds(sign(made, *paths(2))) == ["Released"] * 2
    recorded = len(made.recorder.items)
    with pytest.raises(BadInput) as refused:
        sign(made, *paths(5))
    assert refused.value.field == "requests"
    assert len(made.recorder.items) == recorded


def test_the_bound_of_an_answer_holds() -> None:
    outcomes = sign(world(), *paths(20))
    answer = msgspec.json.encode([outcome for outcome in outcomes if isinstance(outcome, Released)])
    assert len(answer) < 20 * batch._AROUND_BYTES


@pytest.mark.parametrize(("kind", "told"), [(Fault.FULL, SandboxBusy), (Fault.MODULE_RAISED, ModuleRefused)])
def test_a_sandbox_that_runs_nothing_is_every_items_fault(
    kind: Fault, told: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = world()

    async def run_many(*_asked: object) -> list[object]:
        raise fault(kind)

    monkeypatch.setattr(made.sandbox, "run_many", run_many)
    outcomes = sign(made, *paths(2))
    assert [type(outcome) for outcome in outcomes] == [told] * 2
    assert not made.recorder.items


def test_an_unexpected_exception_is_one_items(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()
    submit = made.recorder.submit

    async def broken(item: Item) -> Recorded:
        if isinstance(item, Use) and item.holes["path"] == "/1":
            raise RuntimeError("a secret in a message")
        return await submit(item)

    monkeypatch.setattr(made.recorder, "submit", broken)
    assert kinds(sign(made, *paths(3))) == ["Released", "RuntimeError", "Released"]


class SlowRecorder:
    """Answers when told; `most` is how many were there at once."""

    def __init__(self) -> None:
        self.there = self.most = 0
        self.answer = asyncio.Event()

    async def submit(self, _item: Item) -> Recorded:
        self.there += 1
        self.most = max(self.most, self.there)
        await self.answer.wait()
        self.there -= 1
        return Recorded(index=0, output=msgspec.msgpack.encode({"header.a": "b"}))


def test_uses_go_to_the_recorder_side_by_side_and_not_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()

    async def story() -> list[Outcome]:
        slow = SlowRecorder()
        monkeypatch.setattr(made.recorder, "submit", slow.submit)
        signing = asyncio.create_task(made.batches.sign(paths(IN_FLIGHT + 20), passed))
        for _ in range(20 * IN_FLIGHT):
            await asyncio.sleep(0)
        assert (slow.there, slow.most) == (IN_FLIGHT, IN_FLIGHT)
        slow.answer.set()
        return await signing

    assert kinds(asyncio.run(story())) == ["Released"] * (IN_FLIGHT + 20)


def test_a_long_batch_lets_others_have_their_turn() -> None:
    made = world()
    stages: Stages = made.batches._stages
    moments = iter(number * SLICE_S for number in range(10_000))
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def story() -> None:
        other = asyncio.create_task(count())
        await Batches(stages, monotonic_s=lambda: next(moments)).sign(paths(10), passed)
        other.cancel()

    asyncio.run(story())
    assert turns >= 20  # between the ten items of each of three steps
