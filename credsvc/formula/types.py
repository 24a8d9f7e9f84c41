"""Types of holes and of confidential fields: what a blank may hold, and what a secret may be used for.

Rules:
- A hole's value comes from module code and is hostile: it has an exact type and bounds, which are checked
  here and nowhere else.
- On the wire a regex hole is a str, `bytes` is lower-case hex, `int` and `time` are int (seconds since 1970),
  a list hole is a list of {column: str}.
- No message carries a value: holes are public, but may be long, and an error goes to logs.
- A `time` lies within the hole's skew of `now`; `now` None leaves that out.
- The types of holes are read straight from a manifest's tables (`manifest_toml.py`), and check themselves.

Leaves to others: ceilings and policy context (`holes.py`), the regex subset (`pattern.py`).
"""

from __future__ import annotations

import enum
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Annotated, Final

import msgspec
from msgspec import Meta

from credsvc.formula.pattern import SafePattern
from ostiary.errors import BadInput

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

# What servers take for one header field or URL (Apache's LimitRequestFieldSize and nginx's buffers: 8 KiB).
MAX_VALUE_CHARS: Final = 8192
# With the frame around it this still fits the 256 KiB that the front takes for a request.
MAX_LIST_CHARS: Final = 65_536
MAX_ROWS: Final = 256
MAX_BYTES: Final = 4096
# Exact in JSON everywhere: RFC 8785 section 3.2.2.3, RFC 7493 section 2.2.
MAX_INT: Final = 2**53 - 1
# As Kerberos recommends (RFC 4120 section 8.2, acceptable clock skew) and AWS allows.
DEFAULT_SKEW_S: Final = 300
MAX_SKEW_S: Final = 3600
_LATEST_EPOCH_S: Final = 253_402_300_799  # 9999-12-31T23:59:59Z

# Of a table or list in a manifest.
MAX_ENTRIES: Final = 64

Name = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]{0,62}\Z")]
Key = Annotated[str, Meta(pattern=r"^[!-~]{1,64}\Z")]

Row = tuple[bytes, ...]
Filled = bytes | int | tuple[Row, ...]


class FieldType(enum.Enum):
    """The one way in which a confidential field may be used."""

    HMAC_KEY = "hmac_key"  # key of a MAC, literals around it allowed
    DIGEST_INPUT = "digest_input"  # part of a digest's input
    SIGN_KEY = "sign_key"  # private key of a signature
    KDF_PASSWORD = "kdf_password"  # noqa: S105 - input of pbkdf2
    BEARER = "bearer"  # shown to the provider as it is, by egress only


class Strength(enum.Enum):
    """Who made a secret: a generator (at least 128 bits, checked) or a person."""

    GENERATED = "generated"
    PASSWORD = "password"  # noqa: S105


def check_span(key: str, span: tuple[int, int]) -> None:
    """Check that a span is in order; ValueError, which `manifest_toml.py` turns into an error of its own."""
    if span[0] > span[1]:
        raise ValueError(f"field `{key}`: wanted two whole numbers in order")


class RegexHole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="regex"):
    """Text that the pattern describes."""

    pattern: SafePattern


class TimeHole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="time"):
    """A moment within `skew_s` seconds of the keyholder's clock."""

    skew_s: Annotated[int, Meta(ge=1, le=MAX_SKEW_S)] = DEFAULT_SKEW_S


class BytesHole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="bytes"):
    """Octets; hex on the wire. `length` has both ends included."""

    length: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(le=MAX_BYTES)]]

    def __post_init__(self) -> None:
        check_span("length", self.length)


class IntHole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="int"):
    """A whole number; `range` has both ends included."""

    range: tuple[Annotated[int, Meta(ge=0)], Annotated[int, Meta(le=MAX_INT)]]

    def __post_init__(self) -> None:
        check_span("range", self.range)


class ListHole(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="list"):
    """Rows of text columns; the first column is the key.

    `sorted` orders rows by all columns; `unique` is about the key; `must` are keys that have to be there,
    `without` keys that may not, compared without case.
    """

    columns: Annotated[dict[Name, SafePattern], Meta(min_length=1, max_length=MAX_ENTRIES)]
    sorted: bool = False
    unique: bool = False
    max_rows: Annotated[int, Meta(ge=1, le=MAX_ROWS)] = msgspec.field(name="max")
    must: Annotated[tuple[Key, ...], Meta(max_length=MAX_ENTRIES)] = ()
    without: Annotated[frozenset[Key], Meta(max_length=MAX_ENTRIES)] = frozenset()

    def __post_init__(self) -> None:
        # Lowered once, not at each use; nothing has seen the frozen value yet.
        msgspec.structs.force_setattr(self, "without", frozenset(map(str.lower, self.without)))

    @property
    def key(self) -> str:
        """The column whose values name the rows."""
        return next(iter(self.columns))


HoleType = RegexHole | TimeHole | BytesHole | IntHole | ListHole


# One use asks for the date three or four times, and uses come many a second.
@lru_cache(maxsize=256)
def _format_time(epoch_s: int, pattern: str) -> bytes:
    return time.strftime(pattern, time.gmtime(epoch_s)).encode()


# Each format but `epoch` has one width from year 1000 to 9999, on which `shape.py` relies. None has a name of
# a month or day in it: those would be the locale's.
TIME_FORMATS: Final[dict[str, Callable[[int], bytes]]] = {
    "date": lambda epoch_s: _format_time(epoch_s, "%Y%m%d"),
    "stamp": lambda epoch_s: _format_time(epoch_s, "%Y%m%dT%H%M%SZ"),
    "iso": lambda epoch_s: _format_time(epoch_s, "%Y-%m-%dT%H:%M:%SZ"),
    "epoch": lambda epoch_s: b"%d" % epoch_s,
}


def fill(hole: str, kind: HoleType, value: object, now: datetime | None) -> Filled:
    """Make a value ready for evaluation; BadInput(field="holes.<hole>") where it is outside its type."""
    match kind:
        case RegexHole(pattern=pattern):
            return _fill_text(hole, pattern, value)
        case ListHole():
            return _fill_list(hole, kind, value)
        case TimeHole(skew_s=skew_s):
            return _fill_time(hole, skew_s, value, now)
        case IntHole(range=(lo, hi)):
            # Exact: True is an int, too.
            if type(value) is not int or not lo <= value <= hi:
                raise refusal(hole, f"wanted a whole number from {lo} to {hi}")
            return value
        case BytesHole(length=(lo, hi)):
            return _fill_bytes(hole, lo, hi, value)


def refusal(hole: str, wanted: str) -> BadInput:
    """The error for a hole: its name and what was wanted, never the value."""
    return BadInput(f"hole {hole!r}: {wanted}", field=f"holes.{hole}")


def _fill_text(hole: str, pattern: SafePattern, value: object) -> bytes:
    if type(value) is not str or len(value) > MAX_VALUE_CHARS:
        raise refusal(hole, f"wanted text of at most {MAX_VALUE_CHARS} characters")
    if pattern.compiled.fullmatch(value) is None:
        raise refusal(hole, f"wanted text that matches {pattern.text}")
    return _encode(hole, value)


def _encode(hole: str, value: str) -> bytes:
    # JSON can carry half a surrogate pair (RFC 8259 section 8.2); UTF-8 can't.
    try:
        return value.encode()
    except UnicodeEncodeError:
        raise refusal(hole, "wanted text without lone surrogates") from None


def _fill_time(hole: str, skew_s: int, value: object, now: datetime | None) -> int:
    if type(value) is not int or not 0 <= value <= _LATEST_EPOCH_S:
        raise refusal(hole, "wanted a time in whole seconds since 1970")
    if now is not None and abs(value - now.timestamp()) > skew_s:
        raise refusal(hole, f"wanted a time within {skew_s} s of the keyholder's clock")
    return value


def _fill_bytes(hole: str, lo: int, hi: int, value: object) -> bytes:
    wanted = f"wanted {lo} to {hi} bytes as lower-case hex"
    if type(value) is not str or len(value) > 2 * hi:
        raise refusal(hole, wanted)
    try:
        octets = bytes.fromhex(value)
    except ValueError:
        raise refusal(hole, wanted) from None
    # fromhex() takes spaces and capitals; a value has one text, because the ledger keeps a digest of texts.
    if octets.hex() != value or len(octets) < lo:
        raise refusal(hole, wanted)
    return octets


def _fill_list(hole: str, kind: ListHole, value: object) -> tuple[Row, ...]:
    if type(value) is not list or len(value) > kind.max_rows:
        raise refusal(hole, f"wanted a list of at most {kind.max_rows} rows")
    rows = [_row(hole, kind, row) for row in value]
    if sum(map(len, [text for row in rows for text in row])) > MAX_LIST_CHARS:
        raise refusal(hole, f"wanted at most {MAX_LIST_CHARS} characters in all")
    _check_order(hole, kind, rows)
    return tuple([tuple([_encode(hole, text) for text in row]) for row in rows])


def _row(hole: str, kind: ListHole, row: object) -> tuple[str, ...]:
    if type(row) is not dict or len(row) != len(kind.columns):
        raise refusal(hole, "wanted rows with exactly the columns " + ", ".join(kind.columns))
    texts: list[str] = []
    for name, pattern in kind.columns.items():
        text = row.get(name)
        if type(text) is not str or len(text) > MAX_VALUE_CHARS or pattern.compiled.fullmatch(text) is None:
            raise refusal(hole, f"wanted text in column {name!r} that matches {pattern.text}")
        texts.append(text)
    return tuple(texts)


def _check_order(hole: str, kind: ListHole, rows: list[tuple[str, ...]]) -> None:
    keys = [row[0] for row in rows]
    present = set(keys)
    # By code points, which is the order of the UTF-8 bytes as well (RFC 3629 section 1).
    if kind.sorted and rows != sorted(rows):
        raise refusal(hole, "wanted sorted rows")
    if kind.unique and len(present) != len(keys):
        raise refusal(hole, f"wanted each {kind.key!r} once")
    for key in kind.must:
        if key not in present:
            raise refusal(hole, f"wanted a row for {key!r}")
    if kind.without and not kind.without.isdisjoint(map(str.lower, keys)):
        raise refusal(hole, "wanted no row for any of " + ", ".join(sorted(kind.without)))
