"""Heads that are in order are read; one thing wrong with them refuses them. Their number is in
tests/support/malformed.py, which real listeners are asked with; here are the values, and the borders.
"""

from __future__ import annotations

import pytest

from ostiary.front.head import RefusedRequest, read_head

GET = b"GET /a HTTP/1.1\r\n"
HOST = b"Host: x\r\n"


def head(fields: bytes = b"", *, line: bytes = GET) -> bytes:
    return line + HOST + fields + b"\r\n"


def status_of(data: bytes) -> int:
    with pytest.raises(RefusedRequest) as caught:
        read_head(data)
    return caught.value.status


@pytest.mark.parametrize(
    ("fields", "body_bytes"),
    [
        (b"", 0),
        (b"Content-Length: 0\r\n", 0),
        (b"content-LENGTH:\t 0012 \t\r\n", 12),
        (b"Content-Length: 999999999999999999\r\n", 10**18 - 1),
        (b"Transfer-Encoding: Chunked\r\n", None),
        (b"Expect: 100-Continue\r\nContent-Length: 3\r\n", 3),
        (b"Accept: a\r\nAccept: b\r\n", 0),
        (b"X: \xe9\r\nY:\r\n", 0),
    ],
)
def test_the_body_is_as_long_as_the_head_says(fields: bytes, body_bytes: int | None) -> None:
    found = read_head(head(fields))
    assert (found.passed_on, found.body_bytes) == (head(fields), body_bytes)


@pytest.mark.parametrize("host", [b"x", b"a-b.c_d:8443", b"127.0.0.1:80", b"[::1]:8443", b"[::1]", b"x:"])
def test_a_host_may_be_a_name_or_an_address_with_a_port(host: bytes) -> None:
    assert read_head(GET + b"Host: " + host + b"\r\n\r\n").body_bytes == 0


@pytest.mark.parametrize(
    "host", [b"", b"x y", b"x,y", b"a@x", b"x/y", b"x:80:81", b"x:a", b"[x]", b"::1", b"\xe9"]
)
def test_nothing_else_is_a_host(host: bytes) -> None:
    assert status_of(GET + b"Host: " + host + b"\r\n\r\n") == 400


@pytest.mark.parametrize("host", [b"", b"x,y", b"a@x", b"x:80:81", b"x:a", b"[x]", b"::1", b"\xe9", b"x#"])
def test_nothing_else_is_the_host_of_an_absolute_uri(host: bytes) -> None:
    assert status_of(b"GET http://" + host + b"/ HTTP/1.1\r\nHost: x\r\n\r\n") == 400


def test_only_http_1_0_may_go_without_a_host() -> None:
    assert read_head(b"GET / HTTP/1.0\r\n\r\n").body_bytes == 0
    assert status_of(b"GET / HTTP/1.1\r\n\r\n") == 400


@pytest.mark.parametrize(
    "target",
    [b"/", b"/a/b.c?d=e&f=/?", b"/ocsp/MFIw+/=", b"/%41%2F%00", b"//a", b"/a?", b"/~a!$&'()*,;:@-._"],
)
def test_a_target_is_a_path_with_a_query(target: bytes) -> None:
    line = b"GET " + target + b" HTTP/1.1\r\n"
    assert read_head(head(line=line)).passed_on == head(line=line)


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://other:80/a?b", b"/a?b"),
        (b"HTTPS://[::1]/", b"/"),
        (b"http://x", b"/"),
        (b"http://x?a", b"/?a"),
    ],
)
def test_of_an_absolute_uri_the_path_is_passed_on(target: bytes, path: bytes) -> None:
    passed_on = read_head(head(line=b"GET " + target + b" HTTP/1.1\r\n")).passed_on
    assert passed_on == head(line=b"GET " + path + b" HTTP/1.1\r\n")


def test_an_asterisk_is_for_options() -> None:
    assert read_head(head(line=b"OPTIONS * HTTP/1.1\r\n")).body_bytes == 0
    assert status_of(head(line=b"HEAD * HTTP/1.1\r\n")) == 400


def test_one_empty_line_may_come_first() -> None:
    assert read_head(b"\r\n" + head()).passed_on == b"\r\n" + head()
    assert status_of(b"\r\n\r\n" + head()) == 400


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (b"Upgrade: h2c, WebSocket\r\n", 400),
        (b"Transfer-Encoding: gzip\r\n", 501),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", 400),
        (b"Content-Length: 1000000000000000000\r\n", 413),
        (b"Expect: 100-continue\r\nExpect: x\r\n", 417),
    ],
)
def test_what_is_not_served_has_its_status(fields: bytes, status: int) -> None:
    assert status_of(head(fields)) == status


def test_another_upgrade_is_left_alone() -> None:
    """Java's client sends it with every request (RFC 9110 section 7.8 lets a server ignore it)."""
    fields = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n"
    assert read_head(head(fields)).passed_on == head(fields)


def test_another_version_is_told_from_no_version() -> None:
    assert status_of(head(line=b"GET / HTTP/2.0\r\n")) == 505
    assert status_of(head(line=b"GET / HTTP/x\r\n")) == 400


@pytest.mark.parametrize(
    "line", [b"CONNECT x:443", b"CONNECT /", b"get /", b"G /", b"G3T /", b"X" * 21 + b" /"]
)
def test_a_method_that_nobody_serves_is_not_implemented(line: bytes) -> None:
    assert status_of(head(line=line + b" HTTP/1.1\r\n")) == 501
