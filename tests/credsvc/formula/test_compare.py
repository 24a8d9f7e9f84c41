"""The safe-side questions against brute force: every "never equal" and every "readable in one way" is tried
out.
"""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from credsvc.formula.compare import is_separable, may_equal
from credsvc.formula.evaluate import evaluate_filled
from credsvc.formula.holes import check_holes
from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.secrecy import ways_out
from credsvc.formula.shape import Atom
from tests.support.manifests import build_text

NOW = datetime(2026, 1, 1, tzinfo=UTC)

TYPES = {
    "some": '{ type = "regex", pattern = "[ab]{1,2}" }',
    "any": '{ type = "regex", pattern = "[ab]*" }',
    "two": '{ type = "regex", pattern = "[a-c]{2}" }',
    "wide": '{ type = "regex", pattern = "[^c]?" }',
    "rows": '{ type = "list", columns = { name = "[ab]+", value = "[bc]*" }, max = 2, without = ["ab"] }',
    "octets": '{ type = "bytes", length = [1, 1] }',
    "number": '{ type = "int", range = [9, 10] }',
}


def row(name: str, value: str) -> dict[str, str]:
    return {"name": name, "value": value}


VALUES: dict[str, list[Any]] = {
    "some": ["a", "b", "aa", "ab", "ba", "bb"],
    "any": ["", "a", "b", "ab", "aab"],
    "two": ["ab", "cc", "ca", "aa"],
    "wide": ["", "a", "|", "ü"],
    "rows": [[], [row("a", "")], [row("a", "b")], [row("b", "c"), row("a", "")], [row("ba", "bc")]],
    "octets": ["61", "ff", "c3"],
    "number": [9, 10],
}
LITERALS = st.sampled_from(["'a'", "'b'", "'c'", "'|'", "'ab|'", "'ab=c'", "'9'"])
HOLES = st.sampled_from(["$some", "$any", "$two", "$wide", "$octets", "$number.text"])
JOINS = st.sampled_from(
    ["join('&', $rows, .name '=' .value)", "join('', $rows, .name '|')", "join('c', $rows, .name)"]
)
PIECES = st.one_of(LITERALS, HOLES, JOINS, st.just("@id"))
FUNCTIONS = st.sampled_from(["hex(sha256(%s))", "hex(md5(%s))", "b64(%s)", "pct(hex(%s))", "json(hex(%s))"])
WRAPPED = st.tuples(FUNCTIONS, st.one_of(LITERALS, HOLES)).map(lambda pair: pair[0] % pair[1])
MESSAGES = st.lists(st.one_of(PIECES, PIECES, WRAPPED), min_size=1, max_size=4).map(" ".join)


def build_one(message: str) -> Manifest:
    used = [name for name in TYPES if f"${name}" in message]
    holes = "".join(f"holes.{name} = {TYPES[name]}\n" for name in used)
    head = '[operations.op]\nsummary = "x"\n[operations.op.formulas.op]\nsummary = "x"\n'
    # hex keeps octets printable and changes nothing about equality.
    return parse_manifest(
        (build_text(fields="") + head + f"formula = '''release x = hex({message})'''\n" + holes).encode()
    )


def atoms_of(manifest: Manifest) -> tuple[Atom, ...]:
    (line,) = ways_out(manifest, manifest.formulas["op"])
    (outer,) = line.shapes.atoms(line.expression)
    return outer.arguments[0]


def all_values(manifest: Manifest) -> list[tuple[tuple[Any, ...], str]]:
    """(filling, message) for every filling from VALUES."""
    names = list(manifest.formulas["op"].holes)
    found = []
    for filling in itertools.product(*(VALUES[name] for name in names)):
        holes = dict(zip(names, filling, strict=True))
        filled = check_holes(manifest, "op", holes, operation=None, now=NOW, ceiling={})
        released = evaluate_filled(manifest, filled, shareable={"id": "ab"}, confidential={}, memo=None)
        found.append((filling, released.outputs["x"]))
    return found


@settings(max_examples=150, deadline=None)
@given(MESSAGES, MESSAGES)
def test_what_is_said_to_differ_always_differs(left: str, right: str) -> None:
    one, two = build_one(left), build_one(right)
    if not may_equal(atoms_of(one), atoms_of(two)):
        assert not {value for _, value in all_values(one)} & {value for _, value in all_values(two)}


def _project(value: Any, columns: list[str]) -> Any:
    return [[row[column] for column in columns] for row in value] if isinstance(value, list) else value


@settings(max_examples=150, deadline=None)
@given(MESSAGES)
def test_what_is_said_to_be_separable_is_read_in_one_way(message: str) -> None:
    manifest = build_one(message)
    if is_separable(atoms_of(manifest)):
        # Rows that differ only in a column that the message leaves out count once.
        seen = [name for name in ("name", "value") if f".{name}" in message]
        values = {
            (repr([_project(value, seen) for value in filling]), text)
            for filling, text in all_values(manifest)
        }
        assert len({text for _, text in values}) == len(values)


@settings(max_examples=100, deadline=None)
@given(MESSAGES)
def test_every_message_may_equal_itself(message: str) -> None:
    manifest = build_one(message)
    assert may_equal(atoms_of(manifest), atoms_of(manifest))


@pytest.mark.parametrize(
    ("left", "right", "may"),
    [
        ("'a' $some", "'b' $some", False),
        ("$some", "'ab'", True),
        ("$some", "'abc'", False),
        ("$some '|' $any", "$two '|' 'b'", True),
        ("$some '|' 'a'", "$some '|' 'b'", False),
        ("hex(sha256($some))", "hex(sha256('c'))", False),
        ("hex(sha256($some))", "hex(sha256($two))", True),
        ("join('&', $rows, .name '=' .value)", "'ab=c'", False),
        ("join('&', $rows, .name '=' .value)", "'ba=c'", True),
        ("'abab' @id", "@id", False),
        ("@id '1' @id", "@id @id", False),
        ("@id 'ab'", "@id $some", True),
        ("b64($octets) 'AB'", "b64($octets) 'AC'", False),
        # Values of two widths are not aligned: b64('aab') is 'YWFi'.
        ("b64($any) 'AB'", "b64($any) 'YWFiAB'", True),
        # A mark that the hole before it can contain parts nothing.
        ("$any 'ab|'", "'aab|'", True),
    ],
)
def test_known_pairs(left: str, right: str, may: bool) -> None:
    one, two = atoms_of(build_one(left)), atoms_of(build_one(right))
    assert may_equal(one, two) is may
    assert may_equal(two, one) is may


@pytest.mark.parametrize(
    ("message", "separable"),
    [
        ("$some '|' $any", True),
        ("$some $any", False),
        ("$two $any", True),
        ("$any $two", True),
        ("$any $two $some", False),
        ("$some 'a' $any", False),
        ("$wide '|' $some", False),
        ("json(hex($octets)) $any", True),
        ("join('&', $rows, .name '=' .value) '|' $any", True),
        ("join('&', $rows, .name '=' .value) $any", False),
        ("join('', $rows, .name .value)", False),
        ("join('', $rows, .name '|') $any", False),
        ("join('', $rows, .name '|') '|' $any", True),
        ("join('a', $rows, .name)", False),
    ],
)
def test_known_messages(message: str, separable: bool) -> None:
    assert is_separable(atoms_of(build_one(message))) is separable
