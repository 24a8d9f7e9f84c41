"""What modules find in their globals: escapes, query strings, paths, header folding, time stamps."""

from __future__ import annotations

import calendar
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from credsvc.formula import injected


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_encode_then_decode_is_identity(text: str) -> None:
    assert injected.uri_decode(injected.uri_encode(text)) == text


def test_only_unreserved_characters_stay() -> None:
    assert injected.uri_encode("aZ0-._~ /+ü") == "aZ0-._~%20%2F%2B%C3%BC"
    assert injected.uri_encode("/a b%20", "/%") == "/a%20b%20"


def test_query_pairs_keep_order_and_repeats() -> None:
    assert injected.parse_query("b=1&a=2&b=%31+x&c&&d==") == [
        ("b", "1"),
        ("a", "2"),
        ("b", "1 x"),
        ("c", ""),
        ("d", "="),
    ]


def test_url_parts() -> None:
    parts = injected.parse_url("https://S3.example:8443/a%20b?x=1")
    assert parts == {"scheme": "https", "host": "s3.example:8443", "path": "/a%20b", "query": "x=1"}
    assert injected.parse_url("http://h")["path"] == "/"


@pytest.mark.parametrize("url", ["/a", "https://", "https://user:pw@h/", "https://h/#f", "javascript:x"])
def test_a_url_that_is_not_absolute_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="not an absolute URL"):
        injected.parse_url(url)


@pytest.mark.parametrize(
    ("path", "normal"),
    [
        ("/", "/"),
        ("", "/"),
        ("//", "/"),
        ("/a/./b/../c/", "/a/c/"),
        ("/..", "/"),
        ("/a/..", "/"),
        ("/./x", "/x"),
        ("//a//b", "/a/b"),
    ],
)
def test_dot_segments(path: str, normal: str) -> None:
    assert injected.normalize_path(path) == normal


def test_headers_fold() -> None:
    rows: list[object] = [["B", " x  y "], ["a", "1"], ("b", "z\n  w")]
    assert injected.fold_headers(rows) == [("a", "1"), ("b", "x y,z w")]
    assert injected.fold_headers({"Host": "h"}) == [("host", "h")]


def test_stamps() -> None:
    assert injected.format_stamp(1440938160) == "20150830T123600Z"
    assert injected.parse_stamp("20150830T123600Z") == 1440938160


DIGITS = st.tuples(*[st.integers(0, most) for most in (9999, 14, 33, 26, 62, 63)])


@given(DIGITS)
def test_a_stamp_is_what_strptime_says(digits: tuple[int, ...]) -> None:
    stamp = "{:04}{:02}{:02}T{:02}{:02}{:02}Z".format(*digits)
    try:
        expected = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        with pytest.raises(ValueError, match="not a time stamp"):
            injected.parse_stamp(stamp)
    else:
        assert injected.parse_stamp(stamp) == expected


@pytest.mark.parametrize(
    "stamp",
    [
        "20150830",
        "20151330T000000Z",
        "20150229T000000Z",
        "00000101T000000Z",
        "20150830T240000Z",
        "20150830T006000Z",
        "20150830T000062Z",
        "\uff120150830T123600Z",
        "20150830T123600Z\n",
    ],
)
def test_a_wrong_stamp_is_refused(stamp: str) -> None:
    with pytest.raises(ValueError, match="not a time stamp"):
        injected.parse_stamp(stamp)


def test_wrong_types_and_bytes_are_refused() -> None:
    with pytest.raises(ValueError, match="not text"):
        injected.INJECTED["uri_encode"](b"x")
    with pytest.raises(ValueError, match="pair of name and value"):
        injected.fold_headers([["a"]])
    with pytest.raises(ValueError, match="not UTF-8"):
        injected.uri_decode("%ff")


def test_every_injected_name_is_public_and_its_own() -> None:
    assert all(
        function.__name__ == name and not name.startswith("_") for name, function in injected.INJECTED.items()
    )
