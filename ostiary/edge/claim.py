"""How a program gets its certificate from its node's manager, for services and commands that speak this
house's HTTP.

Agents use `certmgr.client`, which needs the standard library only; both speak `POST /v1/claim`
(docs/openapi.yaml).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ostiary.edge.client import HTTPClient, unix_connector
from ostiary.secret import Secret

_CLAIM_TIMEOUT_S: Final = 10.0  # a manager itself waits up to 8 s for the CA


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """What a manager answers to a claim: PEM texts, `chain` leaf first; its other members are not needed
    here.
    """

    key: str
    chain: str
    root: str

    def __repr__(self) -> str:
        return "Claimed()"

    def identity(self) -> bytes:
        """Key and certificates in one PEM."""
        return f"{self.key}\n{self.chain}".encode("ascii")


def claim(manager_socket: Path, token: Secret, *, lease: bool) -> Claimed:
    """Claim with a token over the manager's UNIX socket; raises the error that its problem document stands
    for.

    `lease` says that this process ends at once and others of its session go on as the agent.
    """
    body = {"token": token.reveal().decode("ascii", "replace"), "lease": lease}
    connect = unix_connector(manager_socket, timeout_s=_CLAIM_TIMEOUT_S)
    with HTTPClient(connect, host="certificate-manager") as client:
        return client.call("POST", "/v1/claim", body, type_=Claimed)
