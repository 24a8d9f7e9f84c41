"""Capabilities: their grammar, and their one encoding in a certificate."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ostiary.capabilities import (
    CAPABILITIES_OID,
    Capabilities,
    decode_extension,
    encode_extension,
    parse_capabilities,
    parse_capability,
)
from ostiary.errors import BadInput
from ostiary.names import parse_subsystem

SUBSYSTEMS = [parse_subsystem(name) for name in ("a", "b", "c", "d")]
UNIVERSE = parse_capabilities(
    [f"spawn:{name}" for name in SUBSYSTEMS] + ["credential:use", "ledger:read", "un:known"]
)

capabilities = st.sets(st.sampled_from(sorted(UNIVERSE))).map(frozenset)


@pytest.mark.parametrize(
    "text", ["spawn:component-harness", "credential:use", "enroll:node", "x9:y", "revoke:node"]
)
def test_the_grammar_takes(text: str) -> None:
    assert parse_capability(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "spawn",
        "spawn:",
        ":x",
        "spawn:*",
        "Spawn:x",
        "spawn:x:y",
        "spawn:x ",
        "spawn:x\n",
        "spawn:-x",
        *["spawn:x-", "9a:x", "sp_awn:x", "ä:x"],
        "spawn:" + "x" * 65,
    ],
)
def test_the_grammar_refuses(text: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_capability(text)
    assert refusal.value.field in {"capabilities", "subsystem"}


def test_no_arc_of_the_oid_breaks_a_reader() -> None:
    """Go, GnuTLS and pkilint refuse larger arcs; RFC 5280 appendix B: below 2^28, at most 20 arcs and 100
    characters.
    """
    arcs = [int(arc) for arc in CAPABILITIES_OID.dotted_string.split(".")]
    assert max(arcs) < 1 << 28
    assert len(arcs) <= 20
    assert len(CAPABILITIES_OID.dotted_string) <= 100
    assert CAPABILITIES_OID.dotted_string.startswith("1.2.840.113556.1.8000.2554.")


@given(capabilities)
def test_the_extension_is_read_as_it_was_written(held: Capabilities) -> None:
    assert decode_extension(encode_extension(held)) == held


@given(st.binary(max_size=60))
def test_bytes_that_are_accepted_are_the_only_spelling(value: bytes) -> None:
    try:
        held = decode_extension(value)
    except BadInput:
        return
    assert encode_extension(held) == value
