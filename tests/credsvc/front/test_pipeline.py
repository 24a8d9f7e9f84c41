"""A request's life in the front: what is recorded, what is refused by which rule, and what never happens
after a refusal.
"""

from __future__ import annotations

from dataclasses import replace

import falcon
import pytest

from credsvc.front.catalog import Subject
from credsvc.front.stages import GUESSABLE
from credsvc.items import Use
from ostiary.errors import BadInput, Busy, Forbidden
from ostiary.work.answer import Recorded
from ostiary.work.item import Item
from ostiary.work.reports import Refuse
from tests.support.credentials_front import (
    AGENT,
    AWS,
    NOW,
    PEER,
    MemoryRecorder,
    sign_request,
    subject,
    world,
)


def test_a_use_names_all_that_was_decided_on() -> None:
    about = subject()
    made = world(about)
    released = made.sign(sign_request())
    (item,) = made.recorder.items
    assert isinstance(item, Use)
    assert (item.peer, item.credential, item.version, item.operation) == (PEER, "billing-aws", 3, "sign")
    assert (item.module, item.module_digest) == ("aws-sigv4", AWS.code.digest)
    assert item.manifest_digest == AWS.manifest.digest
    assert (item.rule, item.policy_digest) == ("components-read-billing", about.judge.digest)
    assert (item.formula, item.salt) == ("s3_headers", b"\x01" * 16)
    assert item.holes["t"] == int(NOW.timestamp())
    assert (released.release, released.entry) == ({"header.authorization": "AWS4 ..."}, 0)
    assert (released.formula, released.rule) == ("s3_headers", "components-read-billing")


def _refused(made: object, rule: str) -> None:
    recorder: MemoryRecorder = made.recorder  # type: ignore[attr-defined]
    (item,) = recorder.items
    assert isinstance(item, Refuse)
    assert (item.by, item.act, item.target, item.rule) == (PEER, "use", "billing-aws/sign", rule)


def test_without_the_capability_the_guard_refuses_before_the_sandbox() -> None:
    made = world()
    with pytest.raises(Forbidden) as refused:
        made.sign(sign_request(agent=replace(AGENT, capabilities=frozenset())))
    assert refused.value.rule == "use-needs-capability"
    _refused(made, "use-needs-capability")
    assert made.sandbox.runs == 0
    assert made.metrics.value("denied") == 1


def test_what_no_rule_permits_is_refused_by_default() -> None:
    made = world()
    with pytest.raises(Forbidden):
        made.sign(sign_request(agent=replace(AGENT, subsystem="stranger")))
    _refused(made, "default-deny")
    assert made.sandbox.runs == 0


def test_policy_decides_on_what_the_module_filled_in() -> None:
    made = world()
    with pytest.raises(Forbidden):
        made.sign(sign_request(method="DELETE"))
    assert made.sandbox.runs == 1
    _refused(made, "default-deny")


def test_outside_of_the_ceiling_is_recorded_as_refused() -> None:
    made = world(subject(region=("us-*",)))
    with pytest.raises(Forbidden) as refused:
        made.sign(sign_request())
    assert refused.value.rule == "ceiling"
    _refused(made, "ceiling")


def test_a_hole_outside_of_its_type_is_bad_input_and_named() -> None:
    made = world(filled={"region": "eu north"})
    with pytest.raises(BadInput) as refused:
        made.sign(sign_request())
    assert refused.value.field == "holes.region"
    assert not made.recorder.items


def test_a_time_outside_of_the_skew_is_bad_input() -> None:
    made = world(filled={"t": int(NOW.timestamp()) - 301})
    with pytest.raises(BadInput) as refused:
        made.sign(sign_request())
    assert refused.value.field == "holes.t"


@pytest.mark.parametrize(("disabled", "rule"), [(True, "credential-disabled"), (False, "credential-unknown")])
def test_a_credential_that_is_not_there_or_disabled(disabled: bool, rule: str) -> None:
    made = world(subject(disabled=disabled))
    if not disabled:
        made.catalog.subject = None
    with pytest.raises(Forbidden) as refused:
        made.sign(sign_request())
    assert refused.value.rule == rule
    _refused(made, rule)


def test_an_operation_that_the_module_lacks_is_refused_and_recorded() -> None:
    made = world()
    with pytest.raises(Forbidden) as refused:
        made.sign(sign_request(operation="launch"))
    assert "aws-sigv4" not in refused.value.message
    (item,) = made.recorder.items
    assert isinstance(item, Refuse)
    assert (item.target, item.rule) == ("billing-aws/launch", "operation-unknown")


@pytest.mark.parametrize("just_read", [False, True])
def test_a_use_that_came_too_late_is_tried_once_more(just_read: bool) -> None:
    made = world(stale=1)
    made.catalog.successor, made.catalog.just_read = subject(), just_read
    made.sign(sign_request())
    assert len(made.recorder.items) == 2


def test_what_moves_again_and_again_is_busy() -> None:
    made = world(stale=5)

    async def always(credential: str, seen: Subject | None) -> bool:
        return True

    made.catalog.has_moved = always  # type: ignore[method-assign]
    with pytest.raises(Busy):
        made.sign(sign_request())
    assert len(made.recorder.items) == 2


def test_what_is_called_stale_and_has_not_moved_is_refused() -> None:
    made = world(stale=5)
    with pytest.raises(Forbidden) as refused:
        made.sign(sign_request())
    assert (refused.value.rule, len(made.recorder.items)) == ("stale-policy", 1)


def test_nobody_is_refused_on_what_was_replaced() -> None:
    made = world(subject(policy=""))
    made.catalog.successor = subject()
    assert made.sign(sign_request()).rule == "components-read-billing"
    made.catalog.subject, made.catalog.successor = None, subject()
    made.sign(sign_request())
    assert not any(isinstance(item, Refuse) for item in made.recorder.items)


def test_a_refusal_that_cannot_be_recorded_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    made = world()

    async def away(item: Item) -> Recorded:
        raise Busy("the recorder is busy")

    monkeypatch.setattr(made.recorder, "submit", away)
    with pytest.raises(Busy):
        made.sign(sign_request(agent=replace(AGENT, capabilities=frozenset())))


def test_explain_shows_what_would_be_signed_and_signs_nothing() -> None:
    made = world()
    explained = made.explain(sign_request())
    assert not made.recorder.items
    assert explained.bindings["scope"] == "20261121/eu-north-1/s3/aws4_request"
    assert explained.bindings["creq"].startswith("GET\n/2026/11\nx=1\nhost:billing.s3")
    assert not {"kdate", "key", "sig", "header.authorization"} & explained.bindings.keys()


def test_explain_is_refused_like_a_use() -> None:
    made = world()
    with pytest.raises(Forbidden):
        made.explain(sign_request(method="PUT"))
    _refused(made, "default-deny")


ANY_USE = '@id("any-use") permit(principal, action in Action::"use", resource);'


def test_what_lets_passwords_be_tried_must_be_permitted_by_name() -> None:
    assert world(subject(policy=ANY_USE)).sign(sign_request()).rule == "any-use"
    made = world(subject(policy=ANY_USE, guessable=True))
    with pytest.raises(Forbidden, match="lets passwords be tried"):
        made.sign(sign_request())
    _refused(made, "guessable-unnamed")


def test_what_lets_passwords_be_tried_has_a_pace() -> None:
    made, free = world(subject(guessable=True)), world()
    for _ in range(GUESSABLE.burst):
        made.sign(sign_request())
        made.explain(sign_request())  # signs nothing, and costs nothing
        free.sign(sign_request())
    with pytest.raises(falcon.HTTPTooManyRequests):
        made.sign(sign_request())
    assert len(made.recorder.items) == GUESSABLE.burst
    free.sign(sign_request())
