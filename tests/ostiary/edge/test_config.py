"""Configuration: what is wrong is named with file and member."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from ostiary.edge import config
from ostiary.errors import Misconfigured


class Inner(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    port: int = 1


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    inner: Inner = Inner()


def test_a_file_becomes_its_value(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('name = "x"\n[inner]\nport = 5\n')
    assert config.load(tmp_path / "c.toml", Config) == Config("x", Inner(5))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"name = ", "'c' is not TOML"),
        (b"\xff", "'c' is not TOML"),
        (b"", "'c': object missing required field `name`"),
        (b"name = 1", "'c' at 'name': expected `str`, got `int`"),
        (b'name = "x"\n[inner]\nport = "y"', "'c' at 'inner.port': expected `int`, got `str`"),
        (b'name = "x"\n[inner]\nprot = 1', "'c' at 'inner': object contains unknown field `prot`"),
    ],
)
def test_a_mistake_is_named(text: bytes, message: str) -> None:
    with pytest.raises(Misconfigured) as caught:
        config.parse(text, Config, name="c")
    assert caught.value.message.startswith(message)
