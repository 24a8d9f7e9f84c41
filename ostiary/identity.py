"""An agent's identity, and the one mapping between identity and certificate, in both directions.

    application   Subject DC, one RDN per DNS label, most significant first (RFC 2247), IA5String
    sub-system    Subject O   UTF8String        agent  Subject UID  UTF8String
    node          Subject OU  UTF8String
    endpoints     subjectAltName URI, in their order, then the DNS name `<agent>.<node>`,
                  and for our services' own certificates the DNS name `<node>` after it
    capabilities  our own extension (ostiary/capabilities.py)

Rules:
- Each identity has exactly one encoding and each field one place; a certificate that encodes it in any other
  way is refused.
- A value in hand is valid: construction checks every part.

docs/architecture.md ("Identity in the certificate") has the same table for readers of the whole.
Not checked here: signature, chain, validity, issuer, key usage; whether the node lies in a node domain.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from ostiary import der
from ostiary.capabilities import (
    CAPABILITIES_OID,
    MAX_CAPABILITIES,
    NO_CAPABILITIES,
    Capabilities,
    decode_extension,
)
from ostiary.errors import BadInput
from ostiary.names import (
    AgentID,
    Application,
    NodeName,
    SubSystem,
    parse_agent_id,
    parse_application,
    parse_node,
    parse_subsystem,
)

__all__ = [
    "MAX_ENDPOINTS",
    "AgentID",
    "Application",
    "Endpoint",
    "Identity",
    "NodeName",
    "SubSystem",
    "identity_of",
    "parse_agent_id",
    "parse_application",
    "parse_endpoint",
    "parse_node",
    "parse_subsystem",
    "subject_alternative_name_der",
    "subject_der",
]

MAX_ENDPOINTS: Final = 16

# Attribute types: DC and UID of RFC 4519 sections 2.4 and 2.39, O and OU of X.520.
_DC: Final = der.oid("0.9.2342.19200300.100.1.25")
_UID: Final = der.oid("0.9.2342.19200300.100.1.1")
_O: Final = der.oid("2.5.4.10")
_OU: Final = der.oid("2.5.4.11")
_AFTER_DC: Final = (
    (NameOID.ORGANIZATION_NAME, "O"),
    (NameOID.ORGANIZATIONAL_UNIT_NAME, "OU"),
    (NameOID.USER_ID, "UID"),
)

# GeneralName (RFC 5280 section 4.2.1.6): dNSName is [2], uniformResourceIdentifier [6], both IMPLICIT
# IA5String.
_DNS_NAME: Final = 2
_URI: Final = 6

_MAX_PORT: Final = 65535
# `+` is legal in a URI scheme (RFC 3986 section 3.1) and separates application protocol and transport. A host
# is at most 101 characters: a UUID (36), a dot, a node (64).
_PROTOCOL: Final = re.compile(r"[a-z][a-z0-9]{0,15}(?:[.-][a-z0-9]{1,16})*")
_TRANSPORT: Final = re.compile(r"[a-z][a-z0-9]{0,15}")
_HOST: Final = re.compile(r"[a-z0-9.-]{1,101}")
_ENDPOINT: Final = re.compile(r"([a-z0-9.-]{1,64})\+([a-z0-9]{1,16})://([a-z0-9.-]{1,101}):([1-9][0-9]{0,4})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A URL on which an agent listens: `<application protocol>+<transport>://<agent>.<node>:<port>`."""

    application_protocol: str
    transport: str
    host: str
    port: int

    def __post_init__(self) -> None:
        well_formed = (
            _PROTOCOL.fullmatch(self.application_protocol)
            and _TRANSPORT.fullmatch(self.transport)
            and _HOST.fullmatch(self.host)
            and 1 <= self.port <= _MAX_PORT
        )
        if not well_formed:
            raise _bad_endpoint(str(self))

    def __str__(self) -> str:
        return f"{self.application_protocol}+{self.transport}://{self.host}:{self.port}"


def parse_endpoint(url: str) -> Endpoint:
    """Parse an endpoint's URL, one spelling only (no path, no default port); BadInput names `endpoints`."""
    match = _ENDPOINT.fullmatch(url)
    if match is None:
        raise _bad_endpoint(url)
    protocol, transport, host, port = match.groups()
    return Endpoint(application_protocol=protocol, transport=transport, host=host, port=int(port))


def _bad_endpoint(url: str) -> BadInput:
    return BadInput(
        f"endpoints: {url[:256]!r} is not '<application protocol>+<transport>://<agent>.<node>:<port>' in"
        " lower case",
        field="endpoints",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who an agent is and what it may ask for.

    `node_name_in_san` is True in our services' own certificates, which clients reach by the node's name.
    """

    application: Application
    subsystem: SubSystem
    node: NodeName
    agent: AgentID
    endpoints: tuple[Endpoint, ...]
    capabilities: Capabilities
    node_name_in_san: bool = False

    def __post_init__(self) -> None:
        # A NewType can be made without its parser, so the parsers run again: a value in hand is valid.
        parse_application(self.application)
        parse_subsystem(self.subsystem)
        parse_node(self.node)
        parse_agent_id(self.agent)
        if len(self.endpoints) > MAX_ENDPOINTS or len(set(self.endpoints)) != len(self.endpoints):
            raise BadInput(f"endpoints: duplicates, or more than {MAX_ENDPOINTS}", field="endpoints")
        for endpoint in self.endpoints:
            if endpoint.host != self.host:
                raise BadInput(
                    f"endpoints: host of '{endpoint}' is not the agent's own, '{self.host}'",
                    field="endpoints",
                )
        if len(self.capabilities) > MAX_CAPABILITIES:
            raise BadInput(f"capabilities: more than {MAX_CAPABILITIES}", field="capabilities")

    @property
    def host(self) -> str:
        """The agent's DNS name, `<agent>.<node>`."""
        return f"{self.agent}.{self.node}"


@lru_cache(maxsize=16)
def application_rdns(application: Application) -> bytes:
    """Return the DC RDNs of an application as concatenated DER, without the enclosing SEQUENCE."""
    # RFC 2247 section 3: one RDN per label, most significant first. "shop.example" is DC=example, DC=shop.
    return b"".join(_rdn(_DC, der.ia5_string(label)) for label in reversed(application.split(".")))


def subject_der(identity: Identity) -> der.DER:
    """Encode the Subject (DER Name)."""
    return der.sequence(
        application_rdns(identity.application),
        _rdn(_O, der.utf8_string(identity.subsystem)),
        _rdn(_OU, der.utf8_string(identity.node)),
        _rdn(_UID, der.utf8_string(identity.agent)),
    )


def _rdn(attribute_type: bytes, value: bytes) -> der.DER:
    return der.set_of_one(der.sequence(attribute_type, value))


def subject_alternative_name_der(identity: Identity) -> der.DER:
    """Encode the value of the subjectAltName extension (DER GeneralNames)."""
    names = [der.implicit(_URI, str(endpoint).encode()) for endpoint in identity.endpoints]
    # Always there, endpoints or not: pyca/cryptography's ClientVerifier refuses a leaf without
    # subjectAltName.
    names.append(der.implicit(_DNS_NAME, identity.host.encode()))
    if identity.node_name_in_san:
        names.append(der.implicit(_DNS_NAME, identity.node.encode()))
    return der.sequence_of(names)


def identity_of(certificate: x509.Certificate) -> Identity:
    """Read the identity out of a certificate, or refuse it: BadInput names the field that does not map.

    1. Subject: DC.. O OU UID, one attribute per RDN, nothing else.
    2. subjectAltName: URIs, DNS `<agent>.<node>`, perhaps DNS `<node>`; nothing else.
    3. Capabilities, absent when there are none (a pending certificate carries no capability).
    4. Every part is valid (`Identity` checks it).
    5. Encoded again, Subject and subjectAltName are the same bytes: one order, one string type, no
       duplicates.
    """
    subject, extensions = _parts(certificate)
    # 1.
    application, subsystem, node, agent = _subject(subject)
    # 2. What else may stand among the names, and in which order, is left to 5.
    alternative_name = _alternative_name(extensions)
    endpoints = tuple(
        parse_endpoint(name.value)
        for name in alternative_name
        if isinstance(name, x509.UniformResourceIdentifier)
    )
    # 3. and 4.
    identity = Identity(
        application=Application(application),
        subsystem=SubSystem(subsystem),
        node=NodeName(node),
        agent=AgentID(agent),
        endpoints=endpoints,
        capabilities=_capabilities(extensions),
        node_name_in_san=len(alternative_name) - len(endpoints) > 1,
    )
    # 5.
    if subject.public_bytes() != subject_der(identity):
        raise BadInput("subject: DC is not IA5String, or O, OU, UID are not UTF8String", field="subject")
    if alternative_name.public_bytes() != subject_alternative_name_der(identity):
        raise BadInput(
            "subject_alternative_name: not URIs, then DNS '<agent>.<node>', then perhaps DNS '<node>'",
            field="subject_alternative_name",
        )
    return identity


def _parts(certificate: x509.Certificate) -> tuple[x509.Name, x509.Extensions]:
    try:
        return certificate.subject, certificate.extensions
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as exc:
        # TypeError is pyca's for an attribute that is a BIT STRING.
        raise BadInput(
            "extensions: subject or extensions are malformed or occur twice", field="extensions"
        ) from exc


def _subject(subject: x509.Name) -> tuple[str, str, str, str]:
    """Return application, sub-system, node and agent as text, not yet checked."""
    try:
        # Unpacking `(attribute,)` fails on an RDN with several attributes.
        attributes = [(attribute.oid, attribute.value) for (attribute,) in subject.rdns]
    except ValueError as exc:
        raise BadInput("subject: RDN with several attributes", field="subject") from exc
    # The last three RDNs are O, OU, UID; everything before them must be a DC.
    labels = [value for oid, value in attributes[:-3] if oid == NameOID.DOMAIN_COMPONENT]
    if not labels or len(labels) != len(attributes) - len(_AFTER_DC):
        raise BadInput("subject: not DC (one or more), O, OU, UID in this order", field="subject.DC")
    for (oid, _), (wanted, short) in zip(attributes[-3:], _AFTER_DC, strict=True):
        if oid != wanted:
            raise BadInput(
                f"subject: {short} is not in its place (DC.., O, OU, UID)", field=f"subject.{short}"
            )
    subsystem, node, agent = (value for _, value in attributes[-3:])
    return ".".join(map(_text, reversed(labels))), _text(subsystem), _text(node), _text(agent)


def _text(value: str | bytes) -> str:
    # pyca/cryptography gives bytes for an attribute of type BIT STRING.
    if isinstance(value, bytes):
        raise BadInput("subject: attribute is not text", field="subject")
    return value


def _alternative_name(extensions: x509.Extensions) -> x509.SubjectAlternativeName:
    try:
        return extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as exc:
        raise BadInput("subject_alternative_name: missing", field="subject_alternative_name") from exc


def _capabilities(extensions: x509.Extensions) -> Capabilities:
    for extension in extensions:
        if extension.oid == CAPABILITIES_OID:
            # pyca/cryptography gives an extension that it does not know as UnrecognizedExtension, raw.
            if extension.critical or not isinstance(extension.value, x509.UnrecognizedExtension):
                raise BadInput("capabilities: extension is critical", field="capabilities")
            capabilities = decode_extension(extension.value.value)
            if not capabilities:
                raise BadInput("capabilities: extension is empty instead of absent", field="capabilities")
            return capabilities
    return NO_CAPABILITIES
