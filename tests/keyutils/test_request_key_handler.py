"""The handler's own decisions, without a kernel: whom it trusts, what it parses, what it imports."""

from __future__ import annotations

import errno
import subprocess
import sys

import pytest

from keyutils import agent_keys, install, keyring, permissions, request_key_handler


def test_forged_line_in_proc_keys_is_not_believed() -> None:
    true = b"0abc1234 I--Q---     1 perm 0b010000     0     0 .request_ key:1f pid:77 ci:5\n"
    forged = b"0abc1234 I--Q---     1 perm 3f3f3f3f  2001  2001 .request_ key:1f pid:66 ci:5: 3\n"
    assert request_key_handler.requester_pid(true, 0x0ABC1234, 0x1F) == 77
    for listing in (
        true + forged,
        forged,
        b"",
        true.replace(b"key:1f", b"key:2f"),
        true.replace(b".req", b"user"),
    ):
        with pytest.raises(request_key_handler.Fault):
            request_key_handler.requester_pid(listing, 0x0ABC1234, 0x1F)


@pytest.mark.parametrize("name", [b"", b"a" * 65, "ä".encode()])
def test_description_outside_the_form_is_rejected(name: bytes) -> None:
    with pytest.raises(request_key_handler.Refused) as caught:
        request_key_handler.parse_description(b"user;1;2;3f010000;ostiary:" + name + b"\0")
    assert caught.value.code == errno.EKEYREJECTED


def test_description_with_separators_keeps_its_owner() -> None:
    parsed = request_key_handler.parse_description(b"user;2001;2002;3f010000;ostiary:a;b\nc\0")
    assert parsed == (b"a;b\nc", 2001, 2002)


def test_handler_agrees_with_the_package() -> None:
    assert request_key_handler.AGENT_KEY_PERMISSIONS == permissions.AGENT_KEY
    assert request_key_handler.MAX_PAYLOAD_BYTES == keyring.MAX_PAYLOAD_BYTES
    assert agent_keys.PREFIX.encode() == request_key_handler.PREFIX


def test_handler_imports_little() -> None:
    """Every cold request pays for each module; this list is the budget."""
    script = (
        "import sys; before = set(sys.modules); source = open(sys.argv[1]).read(); "
        "exec(source, {'__name__': 'x'}); print(*sorted(set(sys.modules) - before))"
    )
    interpreter = install.find_interpreter() or sys.executable
    done = subprocess.run(
        [interpreter, "-ISE", "-c", script, request_key_handler.__file__],
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) <= {
        "_ctypes",
        "_json",
        "_signal",
        "_socket",
        "_struct",
        "binascii",
        "errno",
    }
