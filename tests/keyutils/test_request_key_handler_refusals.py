"""The errno that a requester gets when a manager refuses, hangs, is down or answers nonsense.

The handler's own word is EAGAIN; from one that is killed because it took too long the kernel makes ENOKEY.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from keyutils import keyring
from tests.support.upcall import StubManager, answer_for, key_answer, refusal_answer, request


@pytest.mark.parametrize("name", ["EKEYREJECTED", "EKEYREVOKED", "EAGAIN", "EDQUOT"])
def test_refusal_arrives_with_its_errno(start: Callable[..., StubManager], agent: str, name: str) -> None:
    start(answer_for(agent, refusal_answer(name)))
    with pytest.raises(keyring.KeyringError) as caught:
        request(agent, b"token")
    assert caught.value.name == name


def test_refusal_is_remembered_for_its_seconds(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(answer_for(agent, refusal_answer("EKEYREJECTED", 2)))
    for _ in range(3):
        with pytest.raises(keyring.KeyRejected):
            request(agent, b"token")
    assert len(manager.requests) == 1
    manager.answer = answer_for(agent, key_answer(b"x"))
    time.sleep(2.1)
    assert request(agent, b"token") == b"x"


def test_unknown_agent_is_enokey_and_the_next_manager_is_asked(
    start: Callable[..., StubManager], agent: str
) -> None:
    other = start(lambda _: (404, {"errno": "ENOKEY"}))
    start(answer_for(agent, key_answer(b"mine")))
    assert request(agent) == b"mine"
    with pytest.raises(keyring.KeyringError) as caught:
        request(str(uuid.uuid4()))
    assert caught.value.name == "ENOKEY"
    assert [request["agent"] == agent for request in other.requests] == [True, False]


def test_manager_down_is_eagain(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(answer_for(agent, key_answer(b"x")))
    manager.path.unlink()
    with pytest.raises(keyring.KeyringError) as caught:
        request(agent)
    assert caught.value.name == "EAGAIN"


@pytest.mark.slow
def test_hung_manager_is_bounded_and_the_next_is_asked(start: Callable[..., StubManager], agent: str) -> None:
    start(lambda _: None)
    with pytest.raises(keyring.KeyringError) as caught:
        request(agent)
    assert caught.value.name == "EAGAIN"
    other = str(uuid.uuid4())
    start(answer_for(other, key_answer(b"x")))
    assert request(other) == b"x"


@pytest.mark.parametrize(
    "answer",
    [
        (200, {}),
        (200, {"payload_b64": "!", "timeout_s": 60}),
        (200, {"payload_b64": "eA==", "timeout_s": 0}),
        (200, {"payload_b64": "", "timeout_s": 60}),
        (403, {"errno": "EPERM"}),
        (500, {"title": "internal fault"}),
    ],
)
def test_nonsense_from_a_manager_is_eagain(
    start: Callable[..., StubManager], agent: str, answer: tuple[int, dict[str, Any]]
) -> None:
    start(answer_for(agent, answer))
    with pytest.raises(keyring.KeyringError) as caught:
        request(agent)
    assert caught.value.name == "EAGAIN"


def test_callout_that_is_not_text_is_rejected_without_asking(
    start: Callable[..., StubManager], agent: str
) -> None:
    manager = start(answer_for(agent, key_answer(b"x")))
    with pytest.raises(keyring.KeyRejected):
        request(agent, b"\xff\xfe")
    assert manager.requests == []
