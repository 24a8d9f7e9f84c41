"""Durations on the command line: `90s`, `10m`, `2h`, `1d`, or plain seconds."""

from __future__ import annotations

import re
from typing import Any, Final

import click

# timedelta takes no more than nine digits of days.
_DURATION: Final = re.compile(r"([1-9][0-9]{0,8})([smhd]?)")
_SECONDS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType[int]):
    """A click parameter type whose value is in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        match = _DURATION.fullmatch(value)
        if match is None:
            self.fail(f"{value!r} is not a duration; wanted 90s, 10m, 2h or 1d", param, ctx)
        return int(match[1]) * _SECONDS[match[2]]


DURATION: Final = Duration()
