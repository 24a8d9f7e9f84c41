"""TLS contexts by Python's ssl: what they load, how, and what they refuse to load."""

from __future__ import annotations

import fcntl
import os
import ssl
from pathlib import Path

import pytest

from ostiary.edge.tls import client_context, sealed_memfd, server_context
from ostiary.errors import Misconfigured
from tests.support.pki import Root, identities_that_do_not_load


def test_a_memfd_can_be_read_and_never_changed() -> None:
    with sealed_memfd(b"content") as path:
        fd = int(path.rsplit("/", 1)[1])
        with open(path, "rb") as file:  # noqa: PTH123 - the path is a descriptor
            assert file.read() == b"content"
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 0)
        with pytest.raises(PermissionError):
            os.ftruncate(fd, 0)
        with pytest.raises(PermissionError):
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_a_server_context_speaks_tls_1_3_without_tickets() -> None:
    context = server_context(Root().leaf("a.example").identity_pem)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.num_tickets == 0
    assert context.verify_mode is ssl.CERT_NONE


def test_a_client_context_verifies_names_strictly() -> None:
    context = client_context(Root().pem, None)
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.verify_flags & ssl.VerifyFlags.VERIFY_X509_STRICT


def test_what_does_not_load_is_said_without_its_content() -> None:
    for identity in identities_that_do_not_load():
        with pytest.raises(Misconfigured, match="key and certificate do not load"):
            server_context(identity)
    with pytest.raises(Misconfigured, match="trusted root"):
        client_context(b"nonsense", None)


def test_no_descriptor_is_left_behind() -> None:
    identity = Root().leaf("a.example").identity_pem
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        server_context(identity)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
