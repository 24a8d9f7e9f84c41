"""POST /v1/agents: a manager asks, for a spawner on its node, for a new agent's certificate."""

from __future__ import annotations

from typing import Final

import falcon.asgi
import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ca.front.enrollment import Ask, wanted_by_spawn
from ca.front.parts import FrontParts
from ca.front.peer import Caller
from ca.items import Spawn
from ca.store.rows import CertificateRow
from ostiary.capabilities import Capability, parse_capabilities
from ostiary.certificate import parse_serial_hex, serial_hex
from ostiary.front.http import read_json, write_json
from ostiary.identity import parse_endpoint
from ostiary.names import parse_agent_id, parse_subsystem

ENROLL_NODE: Final = Capability("enroll:node")
_ACT: Final = "spawn"


class AgentRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body; `spawner` is a serial number (hex), `csr` base64 of DER."""

    subsystem: str
    capabilities: list[str]
    endpoints: list[str]
    spawner: str
    csr: str
    agent: str


class Agents:
    """The resource."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        """Have a new agent's certificate made.

        1. The caller is a manager.
        2. Its request is well formed, and the new key's own request is sound.
        3. The spawner has a certificate on the manager's node.
        4. Plan the certificate, have it recorded and signed.

        The recorder decides whether manager and spawner may do this, against the rows under its lock
        (ca/recorder/decide_spawns.py); so the rows that are looked at here may be a moment old.
        """
        # 1.
        parts = self._parts
        caller = await parts.doorkeeper.identify_for_recorder(act=_ACT)
        await parts.doorkeeper.require(caller, ENROLL_NODE, act=_ACT, target=caller.identity.node)
        # 2.
        body = await read_json(req, AgentRequest)
        ask = _parse(body)
        accepted = parts.enroller.accept(body.csr.encode())
        # 3.
        spawner = await self._spawner(caller, body.spawner)
        # 4.
        wanted = wanted_by_spawn(
            parts.profile, spawner, ask, grant=parts.grant(ask.subsystem), lifetime=parts.profile.lifetime
        )
        der = await parts.enroller.enroll(
            wanted,
            accepted,
            lambda prepared: Spawn(
                manager=caller.peer,
                spawner=spawner.serial,
                asked=tuple(sorted(ask.capabilities)),
                certificate=prepared,
            ),
        )
        certificate = x509.load_der_x509_certificate(der)
        write_json(
            resp,
            {
                "agent": ask.agent,
                "serial_number": serial_hex(certificate.serial_number),
                "certificate": certificate.public_bytes(Encoding.PEM).decode("ascii"),
                "chain": parts.chain_pem,
            },
        )

    async def _spawner(self, caller: Caller, serial: str) -> CertificateRow:
        parse_serial_hex(serial)
        # Looked up first: its ceiling says what the certificate may carry. One answer for "unknown" and "on
        # another node", so that a manager learns nothing of other nodes' agents.
        row = await self._parts.recent.certificate(serial)
        if row is None or row.node != caller.identity.node:
            raise await self._parts.doorkeeper.record_refusal(
                caller,
                act=_ACT,
                target=serial,
                rule="spawn-spawner",
                reason=f"there is no certificate {serial} on node '{caller.identity.node}'",
            )
        return row


def _parse(body: AgentRequest) -> Ask:
    return Ask(
        subsystem=parse_subsystem(body.subsystem),
        agent=parse_agent_id(body.agent),
        capabilities=parse_capabilities(body.capabilities),
        endpoints=tuple(str(parse_endpoint(url)) for url in body.endpoints),
    )
