"""The verbs of keyrings(7) against the running kernel."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest

from keyutils import keyring, permissions
from tests.support.upcall import life_of
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable

    from keyutils.keyring import KeySerial


def test_added_key_is_found_read_and_described(session: KeySerial) -> None:
    serial = keyring.add_key("user", "ostiary-test:a", b"secret\0bytes", session)
    assert keyring.search(session, "user", "ostiary-test:a") == serial
    assert keyring.request_key("user", "ostiary-test:a", None) == serial
    assert keyring.read(serial) == b"secret\0bytes"
    assert keyring.read_keyring(session) == [serial]
    assert keyring.describe(serial) == keyring.KeyDescription(
        type="user",
        uid=os.geteuid(),
        gid=os.getegid(),
        permissions=permissions.OWNER_KEY,
        description="ostiary-test:a",
    )


def test_description_may_hold_separators(session: KeySerial) -> None:
    """The kernel's answer is split by ';' four times, no more."""
    serial = keyring.add_key("user", "a;b;c\nd\té", b"x", session)
    assert keyring.describe(serial).description == "a;b;c\nd\té"


def test_update_replaces_payload_and_clears_timeout(session: KeySerial) -> None:
    serial = keyring.add_key("user", "ostiary-test:u", b"one", session)
    keyring.set_timeout(serial, 7200)
    assert life_of(serial) in {"1h", "2h"}  # whole hours, rounded down
    keyring.update(serial, b"two")
    assert life_of(serial) == "perm"
    assert keyring.read(serial) == b"two"


def test_expired_key_says_so(session: KeySerial) -> None:
    serial = keyring.add_key("user", "ostiary-test:e", b"x", session)
    keyring.set_timeout(serial, 1)
    time.sleep(1.1)
    with pytest.raises(keyring.KeyExpired) as caught:
        keyring.read(serial)
    assert caught.value.name == "EKEYEXPIRED"
    assert "EKEYEXPIRED" in str(caught.value)


def test_revoked_key_stays_in_the_way_invalidated_does_not(session: KeySerial) -> None:
    serial = keyring.add_key("user", "ostiary-test:r", b"x", session)
    keyring.revoke(serial)
    with pytest.raises(keyring.KeyRevoked):
        keyring.request_key("user", "ostiary-test:r", None)
    other = keyring.add_key("user", "ostiary-test:i", b"x", session)
    keyring.invalidate(other)

    def is_gone() -> bool:
        try:
            keyring.request_key("user", "ostiary-test:i", None)
        except keyring.NoSuchKey:
            return True
        except keyring.KeyringError:  # the kernel sweeps it a moment later
            pass
        return False

    until(is_gone)


def test_missing_key_is_enokey(session: KeySerial) -> None:
    with pytest.raises(keyring.NoSuchKey) as caught:
        keyring.search(session, "user", "ostiary-test:none")
    assert caught.value.errno == errno.ENOKEY
    assert caught.value.verb == "search"


def test_agent_mask_lets_the_possessor_read_and_nothing_more(session: KeySerial) -> None:
    """update, setperm and link need bits that the possessor does not get."""
    inner = keyring.add_key("keyring", "ostiary-test:inner", b"", session)
    serial = keyring.add_key("user", "ostiary-test:m", b"x", session)
    keyring.setperm(serial, permissions.AGENT_KEY & 0x3F000000)
    assert keyring.read(serial) == b"x"
    attempts: list[Callable[[], None]] = [
        lambda: keyring.update(serial, b"y"),
        lambda: keyring.setperm(serial, permissions.OWNER_KEY),
        lambda: keyring.link(serial, inner),
    ]
    for attempt in attempts:
        with pytest.raises(keyring.KeyringError) as caught:
            attempt()
        assert caught.value.name == "EACCES"


def test_unpossessed_agent_key_is_unreadable_even_for_its_owner(session: KeySerial) -> None:
    serial = keyring.add_key("user", "ostiary-test:p", b"x", session)
    keyring.setperm(serial, permissions.AGENT_KEY)
    pid = os.fork()
    if pid == 0:
        outcome = 1
        try:
            keyring.join_session()
            keyring.read(serial)
        except keyring.KeyringError as exc:
            outcome = 0 if exc.name == "EACCES" else 2
            keyring.invalidate(serial)
        finally:
            os._exit(outcome)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    with pytest.raises(keyring.KeyringError):
        keyring.read(serial)


def test_read_into_fills_the_callers_buffer_and_wipe_clears_it(session: KeySerial) -> None:
    serial = keyring.add_key("user", "ostiary-test:b", b"secret", session)
    buffer = bytearray(16)
    assert keyring.read_into(serial, buffer) == 6
    assert buffer[:6] == b"secret"
    keyring.wipe(buffer)
    assert buffer == bytes(16)
    for short, name in ((bytearray(3), "E2BIG"), (bytearray(), "EINVAL")):
        with pytest.raises(keyring.KeyringError) as caught:
            keyring.read_into(serial, short)
        assert caught.value.name == name


def test_largest_payload_and_one_more(session: KeySerial) -> None:
    serial = keyring.add_key("user", "ostiary-test:l", b"x" * keyring.MAX_PAYLOAD_BYTES, session)
    assert len(keyring.read(serial)) == keyring.MAX_PAYLOAD_BYTES
    with pytest.raises(keyring.KeyringError) as caught:
        keyring.add_key("user", "ostiary-test:l2", b"x" * (keyring.MAX_PAYLOAD_BYTES + 1), session)
    assert caught.value.name == "EINVAL"


def test_nul_is_refused_before_the_kernel_cuts_there(session: KeySerial) -> None:
    with pytest.raises(keyring.KeyringError):
        keyring.add_key("user", "ostiary-test:a\0b", b"x", session)
    with pytest.raises(keyring.KeyringError):
        keyring.request_key("user", "ostiary-test:a", b"a\0b")


def test_link_and_unlink_between_keyrings(session: KeySerial) -> None:
    inner = keyring.add_key("keyring", "ostiary-test:inner", b"", session)
    serial = keyring.add_key("user", "ostiary-test:x", b"x", session)
    keyring.link(serial, inner)
    keyring.unlink(serial, session)
    assert keyring.read_keyring(inner) == [serial]
    assert keyring.search(session, "user", "ostiary-test:x") == serial
    keyring.clear(inner)
    assert keyring.read_keyring(inner) == []


def test_session_serial_is_the_joined_one(session: KeySerial) -> None:
    assert keyring.serial_of(keyring.SESSION_KEYRING, create=False) == session
