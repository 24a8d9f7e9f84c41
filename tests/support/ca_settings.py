"""Settings of a CA as config.toml would have them: right by default, for tests that change one."""

from __future__ import annotations

from ca.config import DEFAULT_GRANTS, ConfigFile

RIGHT = ConfigFile(
    application="shop.example",
    node="ca.shop.example",
    node_domains=["nodes.shop.example"],
    status_url="http://127.0.0.1:8080",
    kek="file:kek",
    grants={name: list(held) for name, held in DEFAULT_GRANTS.items()},
)
