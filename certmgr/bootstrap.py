"""The bootstrap document: everything a node knows at first contact, parsed strictly.

    {"version": 1, "application": ..., "node": ...,
     "ca": {"url", "status_url"}, "credentials": {"url"} | null, "root": PEM,
     "ledgers": [{"origin", "vkey", "checkpoint"}],
     "tokens": {"node-controller": {"agent", "token"}, "certificate-manager": {"agent", "token"}}}

Rules:
- Unknown and missing members are refused, and so is a checkpoint that its own ledger's key did not sign.
- The document need not be confidential: a token in it buys a certificate that stays pending until the node
  proves its address.
- It must be authentic: whoever changes `root` becomes this node's certificate authority.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from ostiary.address import Address, parse_address
from ostiary.edge.files import read_limited
from ostiary.edge.strict_json import decode_json
from ostiary.errors import BadInput
from ostiary.identity import (
    AgentID,
    Application,
    NodeName,
    SubSystem,
    parse_agent_id,
    parse_application,
    parse_node,
)
from ostiary.ledger.checkpoint import VerifierKey, open_note, parse_verifier_key
from ostiary.subsystems import CERTIFICATE_MANAGER, NODE_CONTROLLER
from ostiary.token import Token, parse_token

MAX_DOCUMENT_BYTES: Final = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Introduction:
    """One of the two first agents of a node, and the token that buys its first certificate."""

    subsystem: SubSystem
    agent: AgentID
    token: Token


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownLedger:
    """A ledger's key and the first checkpoint (a signed note); None where the ledger had none yet."""

    origin: str
    key: VerifierKey
    note: bytes | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """A whole document; `root_pem` is the PEM of `root` and nothing else."""

    application: Application
    node: NodeName
    ca: Address
    status_url: str
    credentials_url: str | None
    root: x509.Certificate
    ledgers: tuple[KnownLedger, ...]
    manager: Introduction
    controller: Introduction

    @property
    def root_pem(self) -> bytes:
        return self.root.public_bytes(Encoding.PEM)


class _Strict(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of every object in the document."""


class _Authority(_Strict, frozen=True, kw_only=True):
    url: str
    status_url: str


class _Credentials(_Strict, frozen=True, kw_only=True):
    url: str


class _Ledger(_Strict, frozen=True, kw_only=True):
    origin: str
    vkey: str
    checkpoint: str


class _TokenFor(_Strict, frozen=True, kw_only=True):
    agent: str
    token: str


class _Tokens(_Strict, frozen=True, kw_only=True):
    # The members are the sub-systems' names, so nothing but this pair can be bootstrapped.
    node_controller: _TokenFor = msgspec.field(name=NODE_CONTROLLER)
    certificate_manager: _TokenFor = msgspec.field(name=CERTIFICATE_MANAGER)


class _Document(_Strict, frozen=True, kw_only=True):
    version: Literal[1]
    application: str
    node: str
    ca: _Authority
    credentials: _Credentials | None
    root: str
    ledgers: tuple[_Ledger, ...]
    tokens: _Tokens


def load_bootstrap(source: str) -> Bootstrap:
    """Read the document from a file, or from standard input where `source` is `-`."""
    if source == "-":
        # One byte more than allowed, so that `parse_bootstrap` sees what is too long.
        return parse_bootstrap(sys.stdin.buffer.read(MAX_DOCUMENT_BYTES + 1))
    return parse_bootstrap(read_limited(Path(source), limit_bytes=MAX_DOCUMENT_BYTES))


def parse_bootstrap(content: bytes) -> Bootstrap:
    """Parse the document; BadInput names the member at fault and quotes no token.

    Not checked: that the root is the right one, and that the services listen at their URLs.
    """
    if len(content) > MAX_DOCUMENT_BYTES:
        raise BadInput(f"the bootstrap document is longer than {MAX_DOCUMENT_BYTES} bytes")
    document = decode_json(content, _Document)
    tokens = document.tokens
    manager = _introduction(CERTIFICATE_MANAGER, tokens.certificate_manager)
    controller = _introduction(NODE_CONTROLLER, tokens.node_controller)
    if manager.agent == controller.agent:
        raise BadInput("tokens: manager and node controller must be two agents", field="tokens")
    return Bootstrap(
        application=parse_application(document.application),
        node=parse_node(document.node),
        ca=parse_url(document.ca.url, field="ca.url"),
        status_url=document.ca.status_url,
        credentials_url=document.credentials.url if document.credentials else None,
        root=_root(document.root),
        ledgers=tuple(
            _ledger(ledger, application=document.application, field=f"ledgers[{index}]")
            for index, ledger in enumerate(document.ledgers)
        ),
        manager=manager,
        controller=controller,
    )


def parse_url(url: str, *, field: str) -> Address:
    """Parse `https://HOST:PORT`, nothing behind it."""
    scheme, _, rest = url.partition("://")
    try:
        address = parse_address(rest.removesuffix("/"), field=field)
    except BadInput as exc:
        raise _no_url(url, field) from exc
    if scheme != "https":
        raise _no_url(url, field)
    return address


def _no_url(url: str, field: str) -> BadInput:
    return BadInput(f"{field}: {url[:256]!r} is not https://HOST:PORT", field=field)


def _introduction(subsystem: SubSystem, given: _TokenFor) -> Introduction:
    try:
        return Introduction(
            subsystem=subsystem, agent=parse_agent_id(given.agent), token=parse_token(given.token)
        )
    except BadInput as exc:
        raise BadInput(f"tokens.{subsystem}: {exc.message}", field=f"tokens.{subsystem}.{exc.field}") from exc


def _root(pem: str) -> x509.Certificate:
    """Load the one certificate, a self-signed CA's: every chain must end there."""
    try:
        certificates = x509.load_pem_x509_certificates(pem.encode())
        constraints = certificates[0].extensions.get_extension_for_class(x509.BasicConstraints).value
        certificates[0].verify_directly_issued_by(certificates[0])
    except Exception as exc:  # pyca raises ValueError, TypeError, InvalidSignature, ExtensionNotFound
        raise BadInput("root: not a self-signed CA certificate in PEM", field="root") from exc
    if len(certificates) != 1 or not constraints.ca:
        raise BadInput("root: not exactly one CA certificate", field="root")
    return certificates[0]


def _ledger(given: _Ledger, *, application: str, field: str) -> KnownLedger:
    try:
        key = parse_verifier_key(given.vkey)
        # A ledger that was empty when the document was made has no checkpoint; its key alone pins it.
        note = given.checkpoint.encode() or None
        origin = open_note(note, [key]).origin if note else key.name
    except BadInput as exc:
        raise BadInput(f"{field}: {exc.message}", field=f"{field}.{exc.field or 'checkpoint'}") from exc
    # A valid note of another application's ledger would make every later checkpoint look like a fork.
    if origin != given.origin or not given.origin.startswith(f"{application}/"):
        raise BadInput(
            f"{field}: key or checkpoint does not belong to '{given.origin}'", field=f"{field}.origin"
        )
    return KnownLedger(origin=given.origin, key=key, note=note)
