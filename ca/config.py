"""A CA's settings: config.toml (untrusted) -> Config (checked).

Rules:
- `grants` is policy: the most that an agent of each sub-system may hold. A sub-system that is not named holds
  nothing.
- The URLs of the status services are in every certificate and are sealed with the issuing key: changing them
  here does not change what is signed. Another URL needs another issuing CA.
- The file holds no secret.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from ca.certificates.profile import MAX_LIFETIME, MIN_LIFETIME, ProfileConfig
from ostiary.address import Address, parse_address
from ostiary.capabilities import Capabilities, parse_capabilities
from ostiary.edge.config import load
from ostiary.errors import BadInput, Misconfigured
from ostiary.names import (
    Application,
    NodeName,
    SubSystem,
    is_within,
    parse_application,
    parse_node,
    parse_subsystem,
)
from ostiary.store.database import sqlite_url

DEFAULT_LISTEN: Final = "127.0.0.1:8443"
DEFAULT_STATUS_LISTEN: Final = "127.0.0.1:8080"
# The roles' users are numbered from here (ostiary/edge/users.py): above adduser's range, which ends at 59999.
# systemd's DynamicUser= takes free numbers from 61184 to 65519, so a host with such units needs another base.
DEFAULT_ROLE_UID_BASE: Final = 61200
DEFAULT_MANAGER_PORT: Final = 7443
DEFAULT_GRANTS: Final[Mapping[str, tuple[str, ...]]] = {
    "node-controller": (
        "ledger:read",
        "spawn:component",
        "spawn:component-harness",
        "spawn:credentials-service",
    ),
    "certificate-manager": ("enroll:node",),
    "component-harness": ("credential:use", "ledger:read", "spawn:component"),
    "component": ("credential:use",),
    "credentials-service": ("ledger:read",),
    "auditor": ("ledger:read",),
}
"""The grants of a fresh installation: the parts of this product and the platform's usual two. Operators edit
them.
"""


class Lifetimes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Lifetimes of certificates: of agents, and of node controllers, managers and services."""

    agent_s: int = 7200
    node_s: int = 86400


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The members of config.toml, unchecked; "" means that it does not say."""

    application: str
    node: str
    node_domains: list[str]
    status_url: str
    kek: str
    grants: dict[str, list[str]]
    listen: str = DEFAULT_LISTEN
    status_listen: str = DEFAULT_STATUS_LISTEN
    url: str = ""
    credentials_url: str = ""
    database_url: str = ""
    operator_group: str = ""
    role_uid_base: int = DEFAULT_ROLE_UID_BASE
    manager_port: int = DEFAULT_MANAGER_PORT
    workers: int = 2
    threads: int = 8
    lifetimes: Lifetimes = Lifetimes()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Checked settings of one CA; `url` is where clients reach its front, without a slash at the end."""

    application: Application
    node: NodeName
    node_domains: tuple[NodeName, ...]
    listen: Address
    status_listen: Address
    url: str
    status_url: str
    credentials_url: str | None
    kek: str
    database_url: str
    operator_group: str | None
    role_uid_base: int
    manager_port: int
    workers: int
    threads: int
    agent_lifetime_s: int
    node_lifetime_s: int
    grants: Mapping[SubSystem, Capabilities]

    @property
    def origin(self) -> str:
        """The name of this CA's ledger."""
        return f"{self.application}/ca"

    def profile(self) -> ProfileConfig:
        """The part that stands in certificates, for `ca.certificates.profile.check_profile`."""
        return ProfileConfig(
            ocsp_url=f"{self.status_url}/ocsp",
            ca_issuers_url=f"{self.status_url}/ca/issuing.cer",
            crl_base_url=f"{self.status_url}/crl/",
            lifetime_s=self.agent_lifetime_s,
            node_service_lifetime_s=self.node_lifetime_s,
        )

    def listening_at(self, listen: str) -> Config:
        """The same settings with another address for the front; its URL follows unless the file names one."""
        address = parse_address(listen, field="listen")
        followed = self.url == _url(self.listen, self.node)
        return replace(self, listen=address, url=_url(address, self.node) if followed else self.url)


def load_config(path: Path, *, database: Path) -> Config:
    """Read config.toml; Misconfigured names file and member. `database` is the path of the embedded store."""
    raw = load(path, ConfigFile)
    try:
        return check_config(raw, database=database)
    except BadInput as exc:
        raise Misconfigured(f"'{path}': {exc.message}", field=exc.field) from exc


def check_config(raw: ConfigFile, *, database: Path) -> Config:
    """Check the members; BadInput names the one at fault."""
    application, node = parse_application(raw.application), parse_node(raw.node)
    domains = tuple(parse_node(domain) for domain in raw.node_domains)
    if not any(is_within(node, domain) for domain in (application, *domains)):
        raise BadInput(f"node: '{node}' lies neither in '{application}' nor in a node domain", field="node")
    listen = parse_address(raw.listen, field="listen")
    for name in ("status_url", "url", "credentials_url"):
        if getattr(raw, name).endswith("/"):
            raise BadInput(f"{name}: it must not end with a slash", field=name)
    low, high = int(MIN_LIFETIME.total_seconds()), int(MAX_LIFETIME.total_seconds())
    if not (low <= raw.lifetimes.agent_s <= high and low <= raw.lifetimes.node_s <= high):
        raise BadInput(f"lifetimes: they must be from {low} to {high} s", field="lifetimes")
    return Config(
        application=application,
        node=node,
        node_domains=domains,
        listen=listen,
        status_listen=parse_address(raw.status_listen, field="status_listen"),
        url=raw.url or _url(listen, node),
        status_url=raw.status_url,
        credentials_url=raw.credentials_url or None,
        kek=raw.kek,
        database_url=raw.database_url or sqlite_url(database),
        operator_group=raw.operator_group or None,
        role_uid_base=raw.role_uid_base,
        manager_port=raw.manager_port,
        workers=raw.workers,
        threads=raw.threads,
        agent_lifetime_s=raw.lifetimes.agent_s,
        node_lifetime_s=raw.lifetimes.node_s,
        grants={parse_subsystem(name): parse_capabilities(names) for name, names in raw.grants.items()},
    )


def _url(listen: Address, node: NodeName) -> str:
    """Where clients find a front: the address that it listens on, or its node's name where it listens on
    all.
    """
    host = node if listen.host in {"0.0.0.0", "::"} else listen.host  # noqa: S104 - recognised, not bound
    return f"https://{replace(listen, host=host)}"


def write_config(raw: ConfigFile) -> bytes:
    """The file as `ca init` writes it, with comments for the operator who edits it."""
    lines = ["# Settings of this CA, read at its start. `ostiary ca serve --listen` overrides `listen`.", ""]
    tables = {"grants": raw.grants, "lifetimes": msgspec.structs.asdict(raw.lifetimes)}
    plain = {name: value for name, value in msgspec.structs.asdict(raw).items() if name not in tables}
    # JSON's strings, numbers and arrays of strings are TOML's, too (TOML 1.0.0: basic strings have JSON's
    # escapes).
    lines += [f"{name} = {json.dumps(value)}" for name, value in plain.items()]
    lines += [
        "",
        "# The most that an agent of each sub-system may hold. One that is not named here holds nothing.",
    ]
    for title, members in tables.items():
        lines += [f"[{title}]", *(f"{json.dumps(n)} = {json.dumps(v)}" for n, v in members.items()), ""]
    return "\n".join(lines).encode()
