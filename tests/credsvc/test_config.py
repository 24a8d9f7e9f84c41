"""A credentials service's settings: what is written is read back, and what is not a setting is refused."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from credsvc.config import Config, print_config
from ostiary.edge import config as config_file
from ostiary.errors import Misconfigured
from ostiary.names import parse_application, parse_node

CONFIG = Config(
    application=parse_application("shop.example"),
    node=parse_node("credentials.nodes.shop.example"),
    kek="file:kek",
    ca_url="https://ca.nodes.shop.example:8443",
    manager_socket="/run/ostiary/manager",
)
FULL = msgspec.structs.replace(
    CONFIG, operators_gid=1000, sandbox_without=("landlock", "namespaces"), kek='file:a "quoted" name'
)


@pytest.mark.parametrize("config", [CONFIG, FULL], ids=["least", "full"])
def test_what_is_written_is_read_back(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(print_config(config))
    assert config_file.load(path, Config) == config


def test_a_setting_that_is_not_set_is_not_written() -> None:
    assert b"operators_gid" not in print_config(CONFIG)


@pytest.mark.parametrize("line", ["sudo = true", 'front_workers = "two"'], ids=["unknown", "wrong-type"])
def test_a_bad_setting_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "config.toml"
    name = line.split(maxsplit=1)[0]
    lines = [each for each in print_config(CONFIG).decode().splitlines() if not each.startswith(name)]
    path.write_text("\n".join([*lines, line]))
    with pytest.raises(Misconfigured, match=name):
        config_file.load(path, Config)


def test_the_ledger_is_of_this_service() -> None:
    assert CONFIG.origin == "shop.example/credentials"
