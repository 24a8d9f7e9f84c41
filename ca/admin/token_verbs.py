"""The operators' verbs over tokens: `token.create token.list token.revoke bootstrap`.

Rules:
- A token's text leaves once, in the answer to the verb that made it; its digest is recorded.
- A bootstrap document is two bootstrap tokens and public data. A thief of one who comes first gets a
  certificate that carries nothing until its address is proven, so the document need not be confidential
  (docs/issuance.md, steps 5 and 6).
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final

import msgspec
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine, select

from ca.certificates.accept import CSRBytes, accept
from ca.certificates.addresses import parse_dial_back, parse_node_address
from ca.home import CAHome
from ca.items import MintToken, VoidToken
from ca.store.rows import TokenRow
from ca.store.tables import LEDGER, TOKENS
from ostiary.address import parse_address
from ostiary.admin.server import Verb, arguments_of
from ostiary.capabilities import Capabilities, parse_capabilities
from ostiary.errors import BadInput
from ostiary.identity import parse_endpoint
from ostiary.names import AgentID, NodeName, SubSystem, is_within, parse_agent_id, parse_node, parse_subsystem
from ostiary.recorder.client import RecorderClient
from ostiary.store.ledger_reader import LedgerReader
from ostiary.subsystems import CERTIFICATE_MANAGER, NODE_CONTROLLER, SERVICES
from ostiary.token import RANDOM_BYTES, mint, parse_token_id
from ostiary.work.item import Operator

Json = dict[str, Any]
MAX_ROWS: Final = 500
MANAGER_PROTOCOL: Final = "https+tcp"
SUBMIT_S: Final = 5.0
"""Longer than an agent waits: an operator would rather see the outcome than ask again."""
_Ttl = Annotated[int, msgspec.Meta(ge=1)]


class _CreateToken(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subsystem: str
    node: str
    endpoints: list[str] = []
    capabilities: list[str] = []
    address: str = ""
    ttl_s: _Ttl = 600
    agent: str = ""
    csr: bytes = b""


class _TokenID(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    id: str


class _Page(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)] = MAX_ROWS


class _Bootstrap(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: str
    address: str = ""
    again: bool = False
    ttl_s: _Ttl = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class Bought:
    """What a new token will buy. Its form is checked; the recorder decides whether policy grants it."""

    subsystem: SubSystem
    node: NodeName
    agent: AgentID
    endpoints: tuple[str, ...]
    capabilities: Capabilities
    address: str | None
    spki_digest: bytes | None
    ttl_s: int
    bootstrap: bool
    again: bool


def token_verbs(home: CAHome, recorder: RecorderClient, engine: Engine) -> Mapping[str, Verb]:
    """The verbs by name; `engine` cannot write."""
    verbs = _TokenVerbs(home, recorder, engine)
    return {
        "token.create": verbs.create_token,
        "token.list": verbs.list_tokens,
        "token.revoke": verbs.revoke_token,
        "bootstrap": verbs.bootstrap,
    }


class _TokenVerbs:
    def __init__(self, home: CAHome, recorder: RecorderClient, engine: Engine) -> None:
        self._home = home
        self._config = home.config()
        self._recorder = recorder
        self._engine = engine

    def create_token(self, operator: Operator, arguments: Json) -> Json:
        asked = arguments_of(arguments, _CreateToken)
        node = self._node(asked.node)
        agent, endpoints = place_endpoints(asked.endpoints, node, asked.agent)
        bought = Bought(
            subsystem=parse_subsystem(asked.subsystem),
            node=node,
            agent=agent,
            endpoints=endpoints,
            capabilities=parse_capabilities(asked.capabilities),
            address=parse_node_address(asked.address) if asked.address else None,
            # Bound to the key of a request that the operator was given: then a thief of the token has no use
            # for it.
            spki_digest=bytes.fromhex(accept(CSRBytes(asked.csr)).spki_digest) if asked.csr else None,
            ttl_s=asked.ttl_s,
            bootstrap=False,
            again=False,
        )
        return self._mint(operator, bought)

    def _node(self, text: str) -> NodeName:
        node = parse_node(text)
        # The same domains as in the issuing CA's name constraints; elsewhere the front could not plan a
        # certificate.
        domains = (self._config.application, *self._config.node_domains)
        if not any(is_within(node, domain) for domain in domains):
            raise BadInput(
                f"node: '{node}' lies in none of the node domains {', '.join(domains)}", field="node"
            )
        return node

    def _mint(self, operator: Operator, bought: Bought) -> Json:
        token = mint(os.urandom(RANDOM_BYTES))
        expires_at = int(time.time()) + bought.ttl_s
        item = MintToken(
            operator=operator,
            token_id=token.id,
            token_digest=token.digest,
            subsystem=bought.subsystem,
            node=bought.node,
            agent=bought.agent,
            capabilities=tuple(sorted(bought.capabilities)),
            endpoints=bought.endpoints,
            lifetime_s=self._lifetime_s(bought.subsystem),
            expires_at=expires_at,
            # Items have "" and b"" for what is not said (ca/recorder/decide_tokens.py).
            address=bought.address or "",
            spki_digest=bought.spki_digest or b"",
            bootstrap=bought.bootstrap,
            again=bought.again,
        )
        # Recorded first: a token that nobody recorded buys nothing, so its text must not leave.
        self._recorder.submit(item, timeout_s=SUBMIT_S)
        return {"id": token.id, "token": token.reveal(), "expires_at": expires_at, "agent": bought.agent}

    def _lifetime_s(self, subsystem: SubSystem) -> int:
        of_nodes = {CERTIFICATE_MANAGER, NODE_CONTROLLER, *SERVICES}
        return self._config.node_lifetime_s if subsystem in of_nodes else self._config.agent_lifetime_s

    def list_tokens(self, _operator: Operator, arguments: Json) -> list[Json]:
        limit = arguments_of(arguments, _Page).limit
        now_s = int(time.time())
        query = select(TOKENS).order_by(TOKENS.c.created_at.desc()).limit(limit)
        with self._engine.begin() as tx:
            return [_token_view(TokenRow(**row), now_s) for row in tx.execute(query).mappings()]

    def revoke_token(self, operator: Operator, arguments: Json) -> Json:
        token_id = parse_token_id(arguments_of(arguments, _TokenID).id)
        done = self._recorder.submit(VoidToken(operator=operator, token_id=token_id), timeout_s=SUBMIT_S)
        return {"id": token_id, "status": "void", "entry": done.index}

    def bootstrap(self, operator: Operator, arguments: Json) -> Json:
        asked = arguments_of(arguments, _Bootstrap)
        config, node = self._config, self._node(asked.node)
        address = parse_dial_back(asked.address, default_port=config.manager_port) if asked.address else None
        made = {
            name: self._mint(operator, self._bootstrapped(name, node, address, asked))
            for name in (CERTIFICATE_MANAGER, NODE_CONTROLLER)
        }
        return {
            "version": 1,
            "application": config.application,
            "ca": {"url": config.url, "status_url": config.status_url},
            "credentials": None if config.credentials_url is None else {"url": config.credentials_url},
            "root": self._home.root().public_bytes(Encoding.PEM).decode(),
            "ledgers": [self._ledger()],
            "node": node,
            "tokens": {name: {"agent": each["agent"], "token": each["token"]} for name, each in made.items()},
        }

    def _bootstrapped(
        self, subsystem: SubSystem, node: NodeName, address: str | None, asked: _Bootstrap
    ) -> Bought:
        """A token with all that policy grants the sub-system. The manager alone listens for the CA's
        dial-back, for itself and for the node controller.
        """
        agent = AgentID(str(uuid.uuid4()))
        port = parse_address(address, field="address").port if address else self._config.manager_port
        listens = subsystem == CERTIFICATE_MANAGER
        return Bought(
            subsystem=subsystem,
            node=node,
            agent=agent,
            endpoints=(f"{MANAGER_PROTOCOL}://{agent}.{node}:{port}",) if listens else (),
            capabilities=self._config.grants.get(subsystem, frozenset()),
            address=address,
            spki_digest=None,
            ttl_s=asked.ttl_s,
            bootstrap=True,
            again=asked.again,
        )

    def _ledger(self) -> Json:
        with self._engine.begin() as tx:
            note = LedgerReader(tx, LEDGER).note()
        return {
            "origin": self._config.origin,
            "vkey": str(self._home.verifier()),
            "checkpoint": note.decode(),
        }


def place_endpoints(urls: list[str], node: NodeName, agent: str) -> tuple[AgentID, tuple[str, ...]]:
    """An agent and its endpoints. The host of an endpoint is `<agent>.<node>`, and an operator may write the
    node alone.

    1. The agent is the one that was given, else one that an endpoint names, else a new one.
    2. The node alone becomes `<agent>.<node>`; each endpoint is parsed, and once there.
    3. All endpoints are that agent's. BadInput names `endpoints` or `agent`.
    """
    # 1.
    named = [url.split("://", 1)[-1].partition(f".{node}:")[0] for url in urls if f".{node}:" in url]
    chosen = parse_agent_id(agent or (named[0] if named else str(uuid.uuid4())))
    # 2.
    placed = (url.replace(f"://{node}:", f"://{chosen}.{node}:", 1) for url in urls)
    endpoints = tuple(sorted({str(parse_endpoint(url)) for url in placed}))
    # 3.
    for url in endpoints:
        if parse_endpoint(url).host != f"{chosen}.{node}":
            raise BadInput(f"endpoints: the host of '{url}' is not '{chosen}.{node}'", field="endpoints")
    return chosen, endpoints


def _token_view(row: TokenRow, now_s: int) -> Json:
    # Expired is nowhere in the store: time makes a token so, not an act.
    status = "expired" if row.status == "open" and now_s >= row.expires_at else row.status
    return {
        "id": row.token_id,
        "subsystem": row.subsystem,
        "node": row.node,
        "agent": row.agent,
        "capabilities": row.capabilities.split(),
        "endpoints": row.endpoints.split(),
        "address": row.address,
        "bootstrap": row.bootstrap,
        "status": status,
        "expires_at": row.expires_at,
        "created_by": row.created_by,
        "serial_number": row.spent_serial,
    }
