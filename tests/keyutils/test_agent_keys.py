"""The agent's side: request, find and forget a key, with a manager behind the upcall."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable

import pytest

from keyutils import agent_keys, keyring
from keyutils.keyring import KeySerial
from tests.support.upcall import StubManager, answer_for, find, forget, key_answer, refusal_answer, request
from tests.support.waiting import until


def test_find_looks_without_an_upcall(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(answer_for(agent, key_answer(b"x")))
    assert find(agent) is None
    assert manager.requests == []
    request(agent)
    assert find(agent) is not None


def test_find_treats_a_refused_key_as_absent(start: Callable[..., StubManager], agent: str) -> None:
    start(answer_for(agent, refusal_answer("EKEYREJECTED", 20)))
    with pytest.raises(keyring.KeyRejected):
        request(agent, b"token")
    assert find(agent) is None
    forget(agent)


def test_an_agents_key_has_the_public_prefix(session: KeySerial, agent: str) -> None:
    """What the library puts there without an upcall is found under the same name."""
    serial = keyring.add_key(agent_keys.TYPE, agent_keys.PREFIX + agent, b"x", session)
    assert agent_keys.find(agent) == serial
    assert agent_keys.request(agent) == b"x"
    agent_keys.forget(agent)
    time.sleep(0.05)
    assert agent_keys.find(agent) is None


def test_expired_key_is_made_anew(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(answer_for(agent, key_answer(b"x", timeout_s=1)))
    request(agent)
    time.sleep(1.1)
    assert find(agent) is None
    assert request(agent) == b"x"
    assert len(manager.requests) == 2


def test_forgotten_key_is_made_anew(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(answer_for(agent, key_answer(b"x")))
    request(agent)
    forget(agent)

    def is_made() -> bool:
        with contextlib.suppress(keyring.KeyRevoked):  # the kernel sweeps the old one a moment later
            return request(agent) == b"x"
        return False

    until(is_made)
    assert len(manager.requests) == 2


def test_key_is_inherited_although_a_process_keyring_exists(
    start: Callable[..., StubManager], agent: str
) -> None:
    """The kernel would put it into the process keyring, which children don't see."""
    start(answer_for(agent, key_answer(b"x")))
    pid = os.fork()
    if pid == 0:
        keyring.serial_of(keyring.PROCESS_KEYRING, create=True)
        agent_keys.join_session()
        request(agent)
        child = os.fork()
        if child == 0:
            os._exit(0 if find(agent) else 1)
        os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
