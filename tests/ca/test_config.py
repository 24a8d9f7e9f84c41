"""Settings: what `init` writes is read back; what can't be is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from ca.config import check_config, load_config, write_config
from ostiary.errors import BadInput, Misconfigured
from tests.support.ca_settings import RIGHT


def load(tmp_path: Path, content: bytes) -> Any:
    path = tmp_path / "config.toml"
    path.write_bytes(content)
    return load_config(path, database=tmp_path / "store.sqlite")


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    config = load(tmp_path, write_config(RIGHT))
    assert config == check_config(RIGHT, database=tmp_path / "store.sqlite")
    assert (config.origin, config.url) == ("shop.example/ca", "https://127.0.0.1:8443")
    assert config.grants["certificate-manager"] == {"enroll:node"}
    assert config.profile().crl_base_url == "http://127.0.0.1:8080/crl/"


@pytest.mark.parametrize(
    ("listen", "url"),
    [
        ("0.0.0.0:9443", "https://ca.shop.example:9443"),
        ("[::]:9443", "https://ca.shop.example:9443"),
        ("127.0.0.1:9443", "https://127.0.0.1:9443"),
        ("[::1]:9443", "https://[::1]:9443"),
    ],
)
def test_the_url_follows_where_it_listens(tmp_path: Path, listen: str, url: str) -> None:
    config = check_config(RIGHT, database=tmp_path)
    assert config.listening_at(listen).url == url
    named = msgspec.structs.replace(RIGHT, url="https://ca.example:1")
    assert check_config(named, database=tmp_path).listening_at(listen).url == "https://ca.example:1"


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"application": "Shop"}, "application"),
        ({"node": "ca.elsewhere.example"}, "node"),
        ({"node_domains": ["x"]}, "node"),
        ({"listen": "8443"}, "listen"),
        ({"status_listen": "127.0.0.1:0"}, "status_listen"),
        ({"url": "https://ca.example/"}, "url"),
        ({"grants": {"component": ["everything"]}}, "capabilities"),
        ({"grants": {"Component": []}}, "subsystem"),
    ],
)
def test_one_thing_wrong_is_named(tmp_path: Path, changed: dict[str, Any], field: str) -> None:
    with pytest.raises(BadInput) as refused:
        check_config(msgspec.structs.replace(RIGHT, **changed), database=tmp_path)
    assert refused.value.field == field


def test_an_unknown_member_is_misconfigured_and_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match=r"config\.toml"):
        load(tmp_path, b'color = "red"\n' + write_config(RIGHT))
    with pytest.raises(Misconfigured, match=r"config\.toml"):
        load(tmp_path, write_config(msgspec.structs.replace(RIGHT, node="ca.elsewhere.example")))
