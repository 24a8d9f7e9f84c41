"""HOST:PORT: what is printed is what was read, and what nobody can read is refused."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.address import Address, parse_address
from ostiary.errors import BadInput

_PORTS = st.integers(min_value=1, max_value=65535)
_HOSTS = st.one_of(
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z0-9]{1,20}){0,3}", fullmatch=True),
)


@given(host=_HOSTS, port=_PORTS)
def test_an_address_is_read_as_it_is_written(host: str, port: int) -> None:
    address = Address(host=host, port=port)
    assert parse_address(str(address), field="listen") == address


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:8443", "127.0.0.1", 8443),
        ("localhost:1", "localhost", 1),
        ("ca_1.shop.example:65535", "ca_1.shop.example", 65535),
        ("[::]:8443", "::", 8443),
        ("[fe80::1%eth0]:8443", "fe80::1%eth0", 8443),
    ],
)
def test_hosts_of_every_kind(text: str, host: str, port: int) -> None:
    assert parse_address(text, field="listen") == Address(host=host, port=port)
    assert str(parse_address(text, field="listen")) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "8443",
        "localhost",
        ":8443",
        "localhost:",
        "localhost:0",
        "localhost:65536",
        "localhost:-1",
        "localhost:+1",
        "localhost:²",
        "localhost:１",  # noqa: RUF001 - a full-width digit, which int() would read
        "localhost: 1",
        "localhost:1\n",
        "::1:8443",
        "[::1]",
        "[::1:8443",
        "::1]:8443",
        "[127.0.0.1]:8443",
        "[localhost]:8443",
        "[]:8443",
        "user@localhost:8443",
        "localhost/path:8443",
        "local host:8443",
        f"{'a' * 254}:1",
    ],
)
def test_what_is_no_address_is_refused_and_the_field_named(text: str) -> None:
    with pytest.raises(BadInput, match=r"^ca_address: ") as refused:
        parse_address(text, field="ca_address")
    assert refused.value.field == "ca_address"


def test_an_ipv6_host_without_brackets_is_told_apart() -> None:
    with pytest.raises(BadInput, match="IPv6 address needs it"):
        parse_address(f"{ipaddress.ip_address('2001:db8::1')}:443", field="listen")
