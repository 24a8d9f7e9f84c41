"""What a certificate authority returned, checked before anybody is given it.

Rules:
- Only the pinned root is trusted: neither the connection nor the certificate's own word.
- A certificate that is not exactly what was asked for is refused, whoever signed it.

Not checked: revocation (the feed tells), name constraints beyond our own name (peers do), capabilities beyond
the ceiling. Standard: RFC 5280 section 6.1, for a chain of at most three.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from certmgr.keys import Names
from ostiary.capabilities import Capabilities
from ostiary.certificate import SerialHex, accept_public_key, serial_hex, spki_der
from ostiary.errors import BadInput, Forbidden, InternalFault
from ostiary.identity import Identity, identity_of

_MAX_CHAIN: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for; `endpoints` None takes what the token fixed, `capabilities` None what the token
    allows.
    """

    names: Names
    spki_der: bytes
    endpoints: tuple[str, ...] | None = None
    capabilities: Capabilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that passed `check_issued`: `chain` is leaf first, without the root."""

    chain: tuple[x509.Certificate, ...]
    identity: Identity

    @property
    def certificate(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def serial(self) -> SerialHex:
        return serial_hex(self.certificate.serial_number)

    @property
    def not_before(self) -> datetime:
        return self.certificate.not_valid_before_utc

    @property
    def not_after(self) -> datetime:
        return self.certificate.not_valid_after_utc


def check_issued(
    certificates: Iterable[x509.Certificate], *, root: x509.Certificate, wanted: Wanted, now: datetime
) -> Issued:
    """Find our certificate among those returned (in any order) and check it; raises InternalFault or
    Forbidden.

    1. One of them has our key.  2. From it a chain leads to the pinned root, each signature verified.
    3. All of it is valid now.  4. Its names are ours.  5. It asks for no more than we asked.
    """
    chain = _chain(list(certificates), wanted.spki_der, root)
    for certificate in (*chain, root):
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise Forbidden(
                "a certificate of the chain is not valid now; is the clock right?", rule="validity"
            )
    try:
        identity = identity_of(chain[0])
    except BadInput as exc:
        raise InternalFault(f"the authority's certificate has no identity: {exc.message}") from exc
    _check_identity(identity, wanted)
    return Issued(chain=chain, identity=identity)


def _chain(
    certificates: Sequence[x509.Certificate], wanted_spki: bytes, root: x509.Certificate
) -> tuple[x509.Certificate, ...]:
    leaf = next((each for each in certificates if _spki(each) == wanted_spki), None)
    if leaf is None:
        raise InternalFault("the authority returned no certificate for our key")
    chain = [leaf]
    while chain[-1].issuer != root.subject:
        issuer = next((each for each in certificates if each.subject == chain[-1].issuer), None)
        if issuer is None or len(chain) == _MAX_CHAIN:
            raise InternalFault("the authority's certificates lead to no root that is known")
        _check_signature(chain[-1], issuer)
        chain.append(issuer)
    _check_signature(chain[-1], root)
    return tuple(chain)


def _spki(certificate: x509.Certificate) -> bytes:
    try:
        return spki_der(accept_public_key(certificate.public_key()))
    except (BadInput, ValueError):
        return b""


def _check_signature(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as exc:
        raise Forbidden(
            "the certificate was not signed by our application's authority", rule="pinned-root"
        ) from exc
    if not constraints.ca:
        raise Forbidden("the certificate's issuer is no authority", rule="pinned-root")


def _check_identity(identity: Identity, wanted: Wanted) -> None:
    names = wanted.names
    for name in ("application", "subsystem", "node", "agent"):
        found, asked = getattr(identity, name), getattr(names, name)
        if found != asked:
            raise InternalFault(f"the authority certified {name} '{found}', asked was '{asked}'")
    endpoints = sorted(map(str, identity.endpoints))
    if wanted.endpoints is not None and endpoints != sorted(wanted.endpoints):
        raise InternalFault("the authority certified other endpoints than were asked for")
    if wanted.capabilities is not None and not identity.capabilities <= wanted.capabilities:
        raise InternalFault("the authority certified capabilities that nobody asked for")
