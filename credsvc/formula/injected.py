"""The functions that a credential module finds in its globals: public text in, public text out.

Rules:
- No function here ever meets a secret, the network, a file, the clock or randomness; each is pure, and
  bounded by its input.
- Results are exactly `str`, `int`, `list`, `tuple` and `dict`: the sandbox guards access by exact type.
- A wrong input is a ValueError with a constant text: a module learns no more of an error than its author
  wrote.
- `INJECTED` is the whole list; the sandbox injects exactly these names, and a module's test runner the same.

Follows RFC 3986 (escapes, dot segments) and RFC 9110 section 5 (header fields).
"""

from __future__ import annotations

import hashlib
import re
import time
from datetime import date
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

# The longest text that a list hole takes in all (`types.MAX_LIST_CHARS`).
MAX_TEXT_CHARS: Final = 65_536
# Twice the rows that a list hole takes (`types.MAX_ROWS`): some are folded into one.
MAX_PAIRS: Final = 512
_PAIR = 2

_STAMP = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})Z")
_STAMP_FORMAT = "%Y%m%dT%H%M%SZ"
_DAY_OF_1970 = date(1970, 1, 1).toordinal()
_URL = re.compile(r"(?P<scheme>[a-z]+)://(?P<host>[^/?#]+)(?P<path>/[^?#]*)?(?:\?(?P<query>[^#]*))?")

Pairs = list[tuple[str, str]]


def uri_encode(text: str, safe: str = "") -> str:
    """The UTF-8 bytes of `text`, with all but unreserved characters (RFC 3986 section 2.3) and `safe` as
    upper-case `%XX`.
    """
    return quote(_text(text), safe=_text(safe))


def uri_decode(text: str) -> str:
    """`text` with `%XX` undone once; bytes that are not UTF-8 are refused. A `+` stays a `+`."""
    try:
        return unquote_to_bytes(_text(text)).decode()
    except UnicodeDecodeError:
        raise ValueError("not UTF-8 after unescaping") from None


def parse_query(text: str) -> Pairs:
    """A query string as decoded (name, value) pairs in the order given; `+` is a space; `a` and `a=` are both
    ("a", "").
    """
    parts = [part for part in _text(text).split("&") if part]
    if len(parts) > MAX_PAIRS:
        raise ValueError("too many query parameters")
    pairs = [part.replace("+", " ").partition("=") for part in parts]
    return [(uri_decode(name), uri_decode(value)) for name, _, value in pairs]


def parse_url(text: str) -> dict[str, str]:
    """An absolute URL as `scheme`, `host` (with its port, without user information), `path` (at least `/`)
    and `query`.

    Nothing is decoded; a fragment is refused, since it never reaches a server.
    """
    match = _URL.fullmatch(_text(text))
    if match is None or "@" in match["host"]:
        raise ValueError("not an absolute URL")
    return {
        "scheme": match["scheme"],
        "host": match["host"].lower(),
        "path": match["path"] or "/",
        "query": match["query"] or "",
    }


def normalize_path(path: str) -> str:
    """`path` without empty, `.` and `..` segments (RFC 3986 section 5.2.4, and `//` as `/`); a final slash
    stays.
    """
    kept: list[str] = []
    for segment in _text(path).split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    ends_open = path.endswith(("/", "/.", "/.."))
    return "/" + "/".join(kept) + ("/" if kept and ends_open else "")


def fold_headers(headers: object) -> Pairs:
    """Header fields as (lower-case name, value) pairs sorted by name.

    Values are trimmed, runs of white space become one space, repeated fields are joined by a comma.

    Takes a dict, or a list of [name, value] where fields may repeat; their order is kept (RFC 9110 section
    5.3).
    """
    rows = list(headers.items()) if isinstance(headers, dict) else headers
    if not isinstance(rows, list) or len(rows) > MAX_PAIRS:
        raise ValueError("headers must be a dict or a list of at most 512 pairs")
    folded: dict[str, list[str]] = {}
    for row in rows:
        if not isinstance(row, list | tuple) or len(row) != _PAIR:
            raise ValueError("a header must be a pair of name and value")
        folded.setdefault(_text(row[0]).strip().lower(), []).append(" ".join(_text(row[1]).split()))
    return [(name, ",".join(folded[name])) for name in sorted(folded)]


def sort_pairs(pairs: object) -> Pairs:
    """Pairs of text ordered by code point, first by name, then by value."""
    if not isinstance(pairs, list) or len(pairs) > MAX_PAIRS:
        raise ValueError("pairs must be a list of at most 512")
    return sorted((_text(name), _text(value)) for name, value in pairs)


def sha256_hex(text: str) -> str:
    """SHA-256 of the UTF-8 bytes of `text`, lower-case hex (for public text: a body, an empty payload)."""
    return hashlib.sha256(_text(text).encode()).hexdigest()


def format_stamp(epoch_s: int) -> str:
    """Seconds since 1970 as `YYYYMMDDTHHMMSSZ`."""
    # Exact: a bool is an int as well. 2**37 s are in the year 6325, where a year still has four digits.
    if type(epoch_s) is not int or not 0 <= epoch_s < 1 << 37:
        raise ValueError("not a time")
    return time.strftime(_STAMP_FORMAT, time.gmtime(epoch_s))


def parse_stamp(text: str) -> int:
    """`YYYYMMDDTHHMMSSZ` as seconds since 1970."""
    # Not by strptime(), which takes spaces and single digits, and four times as long.
    match = _STAMP.fullmatch(_text(text))
    if match is None:
        raise ValueError("not a time stamp")
    year, month, day, hour, minute, second = map(int, match.groups())
    if hour > 23 or minute > 59 or second > 61:  # two leap seconds, as in strptime()
        raise ValueError("not a time stamp")
    try:
        days = date(year, month, day).toordinal() - _DAY_OF_1970
    except ValueError:
        raise ValueError("not a time stamp") from None
    return ((days * 24 + hour) * 60 + minute) * 60 + second


def _text(value: object) -> str:
    # A subclass of str could answer later calls as it likes.
    if type(value) is not str:
        raise ValueError("not text")
    if len(value) > MAX_TEXT_CHARS:
        raise ValueError("text too long")
    return value


def build_clock(epoch_s: int) -> dict[str, int | str]:
    """What a module gets as `clock`: one moment as `epoch` (seconds since 1970), `stamp` and `date`
    (YYYYMMDD). Not injected.
    """
    stamp = format_stamp(epoch_s)
    return {"epoch": epoch_s, "stamp": stamp, "date": stamp[:8]}


INJECTED: dict[str, Callable[..., object]] = {
    "fold_headers": fold_headers,
    "format_stamp": format_stamp,
    "normalize_path": normalize_path,
    "parse_query": parse_query,
    "parse_stamp": parse_stamp,
    "parse_url": parse_url,
    "sha256_hex": sha256_hex,
    "sort_pairs": sort_pairs,
    "uri_decode": uri_decode,
    "uri_encode": uri_encode,
}
