"""Claiming a certificate from the node's certificate manager, for our own services and commands.

Agents use `certmgr.client`, which needs nothing but the standard library. Both send `POST /v1/claim`
(docs/openapi.yaml).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from ostiary.edge.http_client import HTTPClient, unix_connector
from ostiary.secret import Secret

# A manager itself waits up to 8 s for the CA; below that, a client would give up on a claim that succeeds.
_CLAIM_TIMEOUT_S: Final = 10.0


class Claimed(msgspec.Struct, frozen=True, kw_only=True):
    """A manager's response to a claim, as far as it is needed here: PEM texts, `chain` leaf first."""

    key: str
    chain: str
    root: str

    # msgspec's own repr would print the private key.
    def __repr__(self) -> str:
        return "Claimed()"

    def identity_pem(self) -> bytes:
        """Key and certificates in one PEM."""
        return f"{self.key}\n{self.chain}".encode("ascii")


def claim(manager_socket: Path, token: Secret, *, lease: bool) -> Claimed:
    """Claim with a token over the manager's UNIX socket; a problem document becomes the error it stands for.

    `lease` asks for a scope by lease instead of by process: this process ends at once, and others of its
    session continue as the agent.
    """
    # "replace" rather than an error here: the manager refuses such a token, in words that do not repeat it.
    body = {"token": token.reveal().decode("ascii", "replace"), "lease": lease}
    connect = unix_connector(manager_socket, timeout_s=_CLAIM_TIMEOUT_S)
    with HTTPClient(connect, host="certificate-manager") as client:
        return client.call("POST", "/v1/claim", body, type_=Claimed)
