"""What an auditor reads of a running credentials service's ledger."""

from __future__ import annotations

import json
from typing import Any

from credsvc.client import SigningClient
from ostiary.edge.http_client import HTTPClient
from ostiary.ledger.checkpoint import read_checkpoint
from tests.support.credential_service import Service
from tests.support.identities import Agent
from tests.support.waiting import until


def http_of(client: SigningClient) -> HTTPClient:
    """A connection of a client, for requests that the client itself would not make."""
    with client._http() as http:
        return http


def auditor(service: Service) -> HTTPClient:
    """A connection of an agent that may read the ledger."""
    return http_of(service.client(service.authority.agent("auditor", capabilities=["ledger:read"])))


def size(service: Service) -> int:
    """The entries that the newest checkpoint covers."""
    return read_checkpoint(auditor(service).request("GET", "/v1/ledger/checkpoint").body).size


def entries(service: Service) -> list[dict[str, Any]]:
    """Every entry that the newest checkpoint covers."""
    http = auditor(service)
    count = size(service)
    found = []
    for tile in range(0, count, 256):
        width = min(256, count - tile)
        place = f"{tile // 256:03}" + ("" if width == 256 else f".p/{width}")
        body = http.request("GET", f"/v1/ledger/tile/entries/{place}").body
        while body:
            length = int.from_bytes(body[:2], "big")
            found.append(json.loads(body[2 : 2 + length]))
            body = body[2 + length :]
    return found


def last_denied(service: Service, agent: Agent) -> dict[str, Any]:
    """The newest refusal of an agent, once a checkpoint covers it: with the next batch, or a moment later."""
    return until(
        lambda: [
            entry
            for entry in entries(service)
            if entry["decision"] == "denied" and entry["by"].get("serial") == agent.serial
        ]
    )[-1]


def entry_at(service: Service, index: int) -> dict[str, Any]:
    """The entry with this index, once a checkpoint covers it."""
    until(lambda: size(service) > index)
    return entries(service)[index]
