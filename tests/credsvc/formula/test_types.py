"""Types of holes: what each takes, and that a value outside is refused by name and never repeated."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest

from credsvc.formula.types import TIME_FORMATS, BytesHole, HoleType, IntHole, ListHole, fill
from ostiary.errors import BadInput
from tests.support.manifests import build, operation

NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
EPOCH = int(NOW.timestamp())
FORMULA = (
    "m = 'a' $t.epoch $word hex($octets) $count.text join('&', $rows, .name .value) $hash"
    " join('&', $query, .name)\nrelease x = hex(hmac(sha256, !key, m))"
)
HOLES: dict[str, HoleType] = dict(build(operation("op", FORMULA)).formulas["op"].holes)


@pytest.mark.parametrize(
    ("hole", "value", "wanted"),
    [
        ("t", EPOCH + 60, EPOCH + 60),
        ("word", "abc", b"abc"),
        ("octets", "00ff", b"\x00\xff"),
        ("count", 4096, 4096),
        ("rows", [{"value": "h", "name": "host"}], ((b"host", b"h"),)),
        ("query", [], ()),
    ],
)
def test_a_value_within_its_type_is_ready_for_evaluation(hole: str, value: Any, wanted: object) -> None:
    assert fill(hole, HOLES[hole], value, NOW) == wanted


BAD: list[tuple[str, Any]] = [
    ("t", EPOCH + 61),
    ("t", EPOCH - 61),
    ("t", str(EPOCH)),
    ("t", float(EPOCH)),
    ("t", True),
    ("t", -1),
    ("t", 10**15),
    ("word", ""),
    ("word", "A"),
    ("word", "abc\n"),
    ("word", "a" * 21),
    ("word", b"abc"),
    ("word", None),
    ("word", ["abc"]),
    ("octets", ""),
    ("octets", "0"),
    ("octets", "FF"),
    ("octets", "0 0f"),
    ("octets", "00" * 65),
    ("octets", 0),
    ("count", 4095),
    ("count", 100001),
    ("count", True),
    ("count", "5000"),
    ("count", 5000.0),
    ("hash", "0" * 63),
    ("query", [{"name": "signature", "value": ""}]),
    ("rows", {}),
    ("rows", []),
    ("rows", [{"name": "host"}]),
    ("rows", [{"name": "host", "value": "h", "more": "x"}]),
    ("rows", [{"name": "host", "value": 1}]),
    ("rows", [["host", "h"]]),
    ("rows", [{"name": "host", "value": "h"}, {"name": "a", "value": "1"}]),
    ("rows", [{"name": "host", "value": "g"}, {"name": "host", "value": "h"}]),
    ("rows", [{"name": "a", "value": "1"}]),
    ("rows", [{"name": "host", "value": "a\nb"}]),
    ("rows", [{"name": chr(97 + n), "value": ""} for n in range(8)] + [{"name": "host", "value": ""}]),
]


@pytest.mark.parametrize(("hole", "value"), BAD, ids=[f"{hole} {value!r:.40}" for hole, value in BAD])
def test_a_hole_outside_its_type_is_named(hole: str, value: Any) -> None:
    with pytest.raises(BadInput) as refused:
        fill(hole, HOLES[hole], value, NOW)
    assert refused.value.field == f"holes.{hole}"


def test_a_forbidden_key_is_compared_without_case() -> None:
    kind = HOLES["query"]
    assert isinstance(kind, ListHole)
    upper = msgspec.structs.replace(kind, without=frozenset({"Signature"}))
    with pytest.raises(BadInput, match="wanted no row for any of signature"):
        fill("query", upper, [{"name": "signature", "value": ""}], NOW)


def test_without_a_clock_a_time_is_not_held_against_it() -> None:
    assert fill("t", HOLES["t"], 0, None) == 0


def test_a_message_never_repeats_the_value() -> None:
    with pytest.raises(BadInput) as refused:
        fill("word", HOLES["word"], "MARKED-VALUE", NOW)
    assert "MARKED" not in refused.value.message


def test_a_lone_surrogate_is_refused() -> None:
    manifest = build(
        operation("op", "release x = hex(hmac(sha256, !key, 'a' $any))")
        + 'holes.any = { type = "regex", pattern = ".*" }\n'
    )
    with pytest.raises(BadInput) as refused:
        fill("any", manifest.formulas["op"].holes["any"], "\ud800", NOW)
    assert refused.value.field == "holes.any"


@pytest.mark.parametrize(("kind", "key"), [(BytesHole, "length"), (IntHole, "range")])
def test_a_span_out_of_order_is_no_type(kind: type[HoleType], key: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=f"`{key}`: wanted two whole numbers in order"):
        msgspec.convert({"type": kind.__struct_config__.tag, key: [2, 1]}, kind)


@pytest.mark.parametrize("epoch_s", [0, EPOCH, 253_402_300_799])
def test_formats_of_time_have_the_widths_that_the_machines_check_counts_on(epoch_s: int) -> None:
    widths = {name: len(render(epoch_s)) for name, render in TIME_FORMATS.items()}
    assert widths.pop("epoch") <= 12
    assert widths == {"date": 8, "stamp": 16, "iso": 20}
