"""A credentials service's settings: what `credsvc init` wrote and an operator may change. None of it is
secret.
"""

from __future__ import annotations

import msgspec

from credsvc.service_name import SERVICE
from ostiary.names import Application, NodeName


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """config.toml; `kek` as in ostiary.edge.kek, `database_url` empty for the embedded store, `ca_address`
    for the host of `ca_url`.
    """

    application: Application
    node: NodeName
    kek: str
    ca_url: str
    manager_socket: str
    ca_address: str = ""
    database_url: str = ""
    # The roles' users, counted from here: among those that systemd keeps for dynamic users (61184 to 65519,
    # systemd.io/UIDS-GIDS), so that no person's account has one.
    role_uid_base: int = 61220
    operators_gid: int | None = None
    front_workers: int = 2
    # Of each worker, for what must block: reading the store.
    front_threads: int = 8
    # Of the whole service: each of the front's workers may have its share of them.
    sandbox_workers: int = 16
    sandbox_without: tuple[str, ...] = ()

    @property
    def origin(self) -> str:
        """The ledger's origin."""
        return f"{self.application}/{SERVICE}"


def print_config(config: Config) -> bytes:
    """The file's text (TOML): the members in order, without those that are not set."""
    lines = []
    for name, value in msgspec.to_builtins(config).items():
        if value is not None:
            lines.append(f"{name} = {msgspec.json.encode(value).decode()}")
    return ("\n".join(lines) + "\n").encode()
