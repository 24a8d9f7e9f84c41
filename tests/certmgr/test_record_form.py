"""A record comes back from its kernel form as it was, and nothing of it is shown."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec
import pytest

from certmgr.lifecycle import AgentState, Life
from certmgr.record import Binding, Generation, Spawn
from certmgr.record_form import decode_record, encode_record
from certmgr.scopes import CgroupScope, LeaseScope, ProcessKey, ProcessScope, Scope
from ostiary.certificate import SerialHex
from ostiary.errors import BadInput
from tests.support.certificates import NOW
from tests.support.manager_records import KEYS, record

KEY = ProcessKey(30, 130)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"binding": Binding(uid=7, scope=CgroupScope(path="/own", inode=9)), "claim_by": NOW},
        {"binding": Binding(uid=0, scope=ProcessScope(root=KEY, members=frozenset({ProcessKey(31, 2)})))},
        {"binding": Binding(uid=0, scope=LeaseScope(anchor=KEY, until=NOW))},
        {"spawn": Spawn(spawner="x", spawner_serial=SerialHex("0a"), process=KEY), "uid": 5, "named": KEY},
        {"capabilities": None, "endpoints": None},
    ],
)
def test_encoding_and_decoding_give_the_same_record(changes: dict[str, Any]) -> None:
    before = record(**changes)
    after = decode_record(encode_record(before), now=NOW, jitter=0.5)
    assert replace(after, life=before.life) == before
    assert (after.life.state, after.life.installed, after.life.used) == (
        before.life.state,
        before.life.installed,
        before.life.used,
    )


@pytest.mark.parametrize(
    ("scope", "stored"),
    [
        (CgroupScope(path="/own", inode=9), {"kind": "cgroup", "path": "/own", "number": 9}),
        (
            ProcessScope(root=KEY, members=frozenset({ProcessKey(31, 2)})),
            {"kind": "process", "processes": [[30, 130], [31, 2]]},
        ),
        (
            LeaseScope(anchor=KEY, until=NOW),
            {"kind": "lease", "processes": [[30, 130]], "until": NOW.timestamp()},
        ),
    ],
    ids=["cgroup", "process", "lease"],
)
def test_the_stored_form_of_a_scope_is_version_1(scope: Scope, stored: dict[str, Any]) -> None:
    """Keys in the kernel outlive a release: the next one must read these members under these names."""
    content = encode_record(record(binding=Binding(uid=7, scope=scope), claim_by=NOW))
    tree = msgspec.msgpack.decode(content)
    assert tree["version"] == 1
    assert tree["binding"] == {"uid": 7, "scope": stored}
    assert tree["claim_by"] == NOW.timestamp()


@pytest.mark.parametrize("lost", ["path", "number"])
def test_a_cgroup_without_its_path_or_inode_is_refused(lost: str) -> None:
    scope = CgroupScope(path="/own", inode=9)
    tree = msgspec.msgpack.decode(encode_record(record(binding=Binding(uid=7, scope=scope))))
    del tree["binding"]["scope"][lost]
    with pytest.raises(BadInput, match="scope"):
        decode_record(msgspec.msgpack.encode(tree), now=NOW, jitter=0.5)


def test_unfinished_work_is_due_at_once() -> None:
    asking = record(
        life=Life(state=AgentState.REQUESTED, due=None),
        current=None,
        upcoming=Generation(number=1, keys=KEYS),
    )
    assert decode_record(encode_record(asking), now=NOW, jitter=0.5).life.due == NOW


@pytest.mark.parametrize("content", [b"", b"\x80", msgspec.msgpack.encode({"version": 9})])
def test_malformed_records_are_refused(content: bytes) -> None:
    with pytest.raises(BadInput, match="malformed record"):
        decode_record(content, now=NOW, jitter=0.5)


def test_another_version_is_refused() -> None:
    tree = msgspec.msgpack.decode(encode_record(record()))
    tree["version"] = 2
    with pytest.raises(BadInput):
        decode_record(msgspec.msgpack.encode(tree), now=NOW, jitter=0.5)


def test_a_private_key_is_never_shown() -> None:
    secret = KEYS.private_key_pem.reveal().decode().splitlines()[1]
    assert secret not in repr(record())
    assert secret not in repr(decode_record(encode_record(record()), now=NOW, jitter=0.5))
