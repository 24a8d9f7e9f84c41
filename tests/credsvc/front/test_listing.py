"""What an agent is shown: each decision once for all that rules do not tell apart, and never in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import msgspec
import pytest

from credsvc.front.catalog import Subject
from credsvc.front.listing import SLICE_S, CredentialSummary, list_usable
from credsvc.policy.cedar import PolicySet
from tests.support.credentials_front import AGENT, subject


def named(number: int, about: Subject, *labels: str) -> Subject:
    entity = replace(about.credential.entity, name=f"c{number:03}", labels=labels or ("billing",))
    return replace(about, credential=replace(about.credential, entity=entity))


def usable(subjects: list[Subject], *, clock: Iterator[float] | None = None) -> list[CredentialSummary]:
    monotonic_s = (lambda: next(clock)) if clock is not None else (lambda: 0.0)
    return asyncio.run(list_usable(AGENT, subjects, monotonic_s=monotonic_s))


def test_what_policy_could_allow_is_shown_with_its_operations() -> None:
    about = subject()
    (shown,) = usable(
        [about, named(1, about, "hr"), replace(about, credential=replace(about.credential, disabled=True))]
    )
    assert msgspec.to_builtins(shown) == {
        "name": "billing-aws",
        "module": "aws-sigv4",
        "version": 3,
        "operations": ["sign"],
        "shareable": {"access_key_id": "AKIDEXAMPLE"},
    }


def test_a_page_costs_one_decision_for_all_that_rules_do_not_tell_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[str] = []
    preview = PolicySet.preview_use

    def counted(policies: PolicySet, agent: object, action: str, credential: object) -> object:
        asked.append(action)
        return preview(policies, agent, action, credential)  # type: ignore[arg-type]

    monkeypatch.setattr(PolicySet, "preview_use", counted)
    about = subject()
    page = [named(number, about) for number in range(100)]
    assert len(usable(page)) == 100
    assert len(asked) == len(about.module.manifest.operations)
    later = replace(AGENT, revocation_age_s=9)
    assert len(asyncio.run(list_usable(later, page, monotonic_s=lambda: 0.0))) == 100
    assert len(asked) == len(about.module.manifest.operations)


def test_a_long_page_lets_others_have_their_turn() -> None:
    about = subject()
    page = [named(number, about, f"l{number}") for number in range(10)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def story() -> None:
        moments = iter(number * SLICE_S for number in range(1000))
        other = asyncio.create_task(count())
        await list_usable(AGENT, page, monotonic_s=lambda: next(moments))
        other.cancel()

    asyncio.run(story())
    assert turns >= len(page) // 2
