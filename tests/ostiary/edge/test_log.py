"""Logs: one JSON object per line, and nothing in it that could be a secret."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from typing import Any

import pytest

from ostiary.edge import log

SECRET = "hunter2-marked"


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    stream = io.StringIO()
    log.configure("front", stream=stream)
    yield stream
    root.handlers[:] = before
    root.setLevel(level)
    logging.raiseExceptions = raises


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_says_what_happened_where_and_when(stream: io.StringIO) -> None:
    logging.getLogger("ostiary.front").warning("role %s", "ended", extra={"exit": -9, "roles": ["a", "b"]})
    (line,) = lines(stream)
    assert line["event"] == "role ended"
    assert (line["level"], line["role"], line["logger"]) == ("warning", "front", "ostiary.front")
    assert (line["exit"], line["roles"]) == (-9, ["a", "b"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line["at"])
    assert list(line) == ["level", "role", "logger", "event", "pid", "exit", "roles", "at"]


class Opaque:
    def __repr__(self) -> str:
        return SECRET

    def __hash__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "extra",
    [
        {"client_token": SECRET},
        {"Authorization": SECRET},
        {"value": Opaque()},
        {"value": SECRET.encode()},
        {"nested": {"passphrase": SECRET, "more": [Opaque()]}},
        {"names": {Opaque(): 1, SECRET.encode(): 2}},
    ],
)
def test_what_may_be_a_secret_is_not_written(stream: io.StringIO, extra: dict[str, object]) -> None:
    logging.getLogger("ostiary").error("event", extra=extra)
    assert SECRET not in stream.getvalue()
    assert len(lines(stream)) == 1


def test_an_exception_is_told_by_type_and_place(stream: io.StringIO) -> None:
    def fail() -> None:
        raise RuntimeError(SECRET)

    try:
        fail()
    except RuntimeError:
        logging.getLogger("library").exception("it failed")
    (line,) = lines(stream)
    assert line["error"] == "RuntimeError"
    assert "test_log.py" in line["where"][0]
    assert SECRET not in stream.getvalue()


def test_a_message_that_does_not_fit_its_arguments_shows_neither(
    stream: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("library").warning("%d of", SECRET)
    logging.getLogger("library").warning("and on")
    assert [line["event"] for line in lines(stream)] == ["and on"]
    assert capsys.readouterr().err == ""


def test_a_message_can_not_forge_a_line(stream: io.StringIO) -> None:
    logging.getLogger("ostiary").info('one\n{"event": "two"}')
    assert len(lines(stream)) == 1


def test_long_text_is_cut(stream: io.StringIO) -> None:
    logging.getLogger("ostiary").info("x" * 10_000)
    assert len(stream.getvalue()) < 1000
