"""The whole upcall: request_key(2) -> /sbin/request-key -> handler -> a manager on a UNIX socket -> key."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

from keyutils import keyring, permissions
from tests.support.upcall import StubManager, answer_for, find, key_answer, life_of, request


def test_miss_is_made_by_the_manager_and_then_hit(start: Callable[..., StubManager], agent: str) -> None:
    payload = bytes(range(256)) * 20
    manager = start(answer_for(agent, key_answer(payload)))
    assert request(agent, b'claim "token" \xc3\xa9;\n') == payload
    assert request(agent) == payload
    assert manager.requests == [
        {
            "agent": agent,
            "callout": 'claim "token" é;\n',
            "requester_pid": threading.get_native_id(),
            "requester_uid": os.geteuid(),
            "requester_gid": os.getegid(),
            "path": "/v1/upcall",
        }
    ]


def test_key_has_owner_mask_and_timeout(start: Callable[..., StubManager], agent: str) -> None:
    start(answer_for(agent, key_answer(b"x", timeout_s=7200)))
    request(agent)
    serial = find(agent)
    assert serial is not None
    told = keyring.describe(serial)
    assert (told.uid, told.gid, told.permissions) == (0, 0, permissions.AGENT_KEY)
    assert life_of(serial) in {"1h", "2h"}  # whole hours, rounded down


def test_largest_payload_passes(start: Callable[..., StubManager], agent: str) -> None:
    payload = b"p" * keyring.MAX_PAYLOAD_BYTES
    start(answer_for(agent, key_answer(payload)))
    assert request(agent) == payload


def test_one_upcall_for_many_threads(start: Callable[..., StubManager], agent: str) -> None:
    manager = start(answer_for(agent, key_answer(b"x")))
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(request(agent))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [b"x"] * 6
    assert len(manager.requests) == 1
