"""Certificates whose names map to an identity (ostiary/identity.py), from a root of the test's own."""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ostiary.capabilities import CAPABILITIES_OID, encode_extension, parse_capabilities
from ostiary.certificate import serial_hex
from ostiary.edge.tls import build_identity_pem
from tests.support.pki import Root

NODE = "n1.nodes.shop.example"


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A certificate with its key."""

    agent: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def identity_pem(self) -> bytes:
        """Key and certificate in one PEM."""
        return build_identity_pem(self.key, [self.certificate])

    @property
    def serial(self) -> str:
        return serial_hex(self.certificate.serial_number)


class Authority:
    """A root that signs leaves directly. All are valid from 2009 to 2049, whatever a service's clock says."""

    not_before = dt.datetime(2009, 1, 1, tzinfo=dt.UTC)
    not_after = dt.datetime(2049, 1, 1, tzinfo=dt.UTC)

    def __init__(self, application: str = "shop.example") -> None:
        self._application = application
        self._root = Root(f"Root of {application}", not_before=self.not_before, not_after=self.not_after)
        self.certificate = self._root.certificate

    @property
    def pem(self) -> bytes:
        return self._root.pem

    def agent(
        self,
        subsystem: str,
        *,
        capabilities: Iterable[str] = (),
        node: str = NODE,
        named_by_node: bool = False,
        until: dt.datetime | None = None,
        common_name: str | None = None,
    ) -> Agent:
        """A leaf that `identity_of` reads; a `common_name` instead makes one that it doesn't."""
        agent = str(uuid.uuid4())
        names = [f"{agent}.{node}", *([node] if named_by_node else [])]
        labels = reversed(self._application.split("."))
        subject = x509.Name(
            [
                *(x509.NameAttribute(NameOID.DOMAIN_COMPONENT, label) for label in labels),
                x509.NameAttribute(NameOID.ORGANIZATION_NAME, subsystem),
                x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, node),
                x509.NameAttribute(NameOID.USER_ID, agent),
            ]
        )
        if common_name is not None:
            subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        granted = parse_capabilities(capabilities)
        carried = [x509.UnrecognizedExtension(CAPABILITIES_OID, encode_extension(granted))] if granted else []
        leaf = self._root.issue(subject, names, until=until, more=carried)
        return Agent(agent=agent, key=leaf.key, certificate=leaf.certificate)
