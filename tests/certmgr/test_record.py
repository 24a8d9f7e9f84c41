"""What follows from a record alone: the payload that is delivered, and what actions make of generations."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from certmgr.lifecycle import Action
from certmgr.record import Generation, Record, describe_scope, payload_of, performed, serials
from certmgr.scopes import CgroupScope, LeaseScope, ProcessKey, ProcessScope, Scope
from keyutils.payload import decode
from tests.support.certificates import NOW
from tests.support.manager_records import KEYS, authority, issued, record

KEY = ProcessKey(30, 130)


def test_the_payload_is_what_the_upcall_delivers() -> None:
    payload = decode(payload_of(record(), authority().root))
    assert payload.generation == 1
    assert payload.not_after == int((NOW + timedelta(hours=2)).timestamp())
    assert len(payload.chain_pem) == 2
    assert payload.private_key_pem == KEYS.private_key_pem.reveal()


def test_actions_move_generations() -> None:
    second = Generation(number=2, keys=KEYS, issued=issued())
    both: Record = replace(record(), upcoming=second)
    assert len(serials(both)) == 2
    promoted = performed(both, [Action.PROMOTE, Action.INSTALL])
    assert (promoted.current, promoted.upcoming, promoted.next_number) == (second, None, 3)
    assert performed(both, [Action.DISCARD]).upcoming is None
    assert serials(performed(both, [Action.WITHDRAW])) == []


def test_a_generation_without_a_certificate_has_nothing_to_show_or_deliver() -> None:
    bare = Generation(number=1, keys=KEYS)
    with pytest.raises(AssertionError, match="no certificate yet"):
        _ = bare.identity_pem
    with pytest.raises(AssertionError, match="nothing to deliver"):
        payload_of(record(current=bare), authority().root)


@pytest.mark.parametrize(
    ("scope", "shown"),
    [
        (CgroupScope(path="/own", inode=9), {"kind": "cgroup", "path": "/own"}),
        (ProcessScope(root=KEY), {"kind": "process", "pid": 30}),
        (LeaseScope(anchor=KEY, until=NOW), {"kind": "lease", "anchor": 30, "until": NOW.isoformat()}),
    ],
    ids=["cgroup", "process", "lease"],
)
def test_a_scope_is_shown_by_its_kind(scope: Scope, shown: dict[str, Any]) -> None:
    assert describe_scope(scope) == shown
