"""Names: each valid one comes back unchanged, and each bad case differs from a valid one in one respect."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.errors import BadInput
from ostiary.names import MAX_NAME, is_within, parse_agent_id, parse_application, parse_node, parse_subsystem

UUID = "3f2c1d4e-5a6b-4c7d-8e9f-0a1b2c3d4e5f"
LONGEST = f"{'a' * 30}.{'b' * 33}"

_LABELS = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,10}[a-z0-9])?", fullmatch=True)
_DNS_NAMES = st.lists(_LABELS, min_size=1, max_size=3).map(lambda labels: ".".join([*labels, "example"]))


@given(name=_DNS_NAMES)
def test_a_dns_name_is_parsed_unchanged(name: str) -> None:
    assert parse_node(name) == name
    assert parse_application(name) == name


@given(words=st.lists(st.from_regex(r"[a-z][a-z0-9]{0,9}", fullmatch=True), min_size=1, max_size=5))
def test_a_sub_system_is_parsed_unchanged(words: list[str]) -> None:
    assert parse_subsystem("-".join(words)) == "-".join(words)


@given(value=st.uuids())
def test_an_agent_is_parsed_unchanged(value: object) -> None:
    assert parse_agent_id(str(value)) == str(value)


def test_the_longest_name_is_the_upper_bound_of_o_and_ou() -> None:
    assert len(LONGEST) == MAX_NAME == 64
    assert parse_node(LONGEST) == LONGEST
    with pytest.raises(BadInput, match="at most 64 characters"):
        parse_node("a" + LONGEST)
    assert parse_subsystem("a" * 64) == "a" * 64
    with pytest.raises(BadInput):
        parse_subsystem("a" * 65)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "localhost",  # no dot
        "shop.example.",  # a trailing dot
        ".shop.example",
        "shop..example",
        "Shop.example",
        "shop_1.example",
        "-shop.example",
        "shop-.example",
        "127.0.0.1",  # an address, not a name
        "shop.1",
        "shöp.example",
        "shop.example\n",
        " shop.example",
        f"{'a' * 64}.example",  # a label above 63
    ],
)
def test_anything_else_is_no_dns_name(name: str) -> None:
    for parse, field in ((parse_node, "node"), (parse_application, "application")):
        with pytest.raises(BadInput) as refused:
            parse(name)
        assert refused.value.field == field
        assert repr(name[:128]) in refused.value.message


@pytest.mark.parametrize(
    ("parse", "field", "text"),
    [
        (parse_subsystem, "subsystem", ""),
        (parse_subsystem, "subsystem", "Component"),
        (parse_subsystem, "subsystem", "1component"),
        (parse_subsystem, "subsystem", "component-"),
        (parse_subsystem, "subsystem", "component--harness"),
        (parse_subsystem, "subsystem", "component_harness"),
        (parse_subsystem, "subsystem", "component\n"),
        (parse_agent_id, "agent", UUID.upper()),
        (parse_agent_id, "agent", UUID.replace("-", "")),
        (parse_agent_id, "agent", "{" + UUID + "}"),
        (parse_agent_id, "agent", "urn:uuid:" + UUID),
        (parse_agent_id, "agent", UUID + "0"),
    ],
)
def test_anything_else_is_no_sub_system_and_no_agent(
    parse: Callable[[str], str], field: str, text: str
) -> None:
    with pytest.raises(BadInput) as refused:
        parse(text)
    assert refused.value.field == field


def test_a_refusal_quotes_no_more_than_the_beginning() -> None:
    with pytest.raises(BadInput) as refused:
        parse_node("x" * 10_000)
    assert len(refused.value.message) < 250


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("nodes.shop.example", True),
        ("n1.nodes.shop.example", True),
        ("a.b.nodes.shop.example", True),
        ("evilnodes.shop.example", False),
        ("shop.example", False),
    ],
)
def test_a_name_is_within_a_domain_by_whole_labels(name: str, within: bool) -> None:
    assert is_within(name, "nodes.shop.example") is within
