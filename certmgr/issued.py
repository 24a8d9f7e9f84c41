"""Checks of the certificates that an authority returns, before any agent receives one.

Rules:
- Only the pinned root is trusted, neither the connection nor the issuer that a certificate names.
- A certificate that differs from the request is refused, whoever signed it.

Not checked: revocation (`certmgr.followers` learns of it), name constraints (peers check them), and whether
capabilities are fewer than asked for. Standard: RFC 5280 section 6.1, for a short chain below one root.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.serialization import Encoding

from certmgr.keys import Names
from ostiary.capabilities import Capabilities
from ostiary.certificate import SerialHex, accept_public_key, serial_hex, spki_der
from ostiary.errors import BadInput, Forbidden, InternalFault
from ostiary.identity import Identity, identity_of

_MAX_CHAIN: Final = 4  # bounds the loop in `_chain`; our own chains are a leaf and an issuing CA


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What was asked for; None accepts the endpoints, or capabilities, that the token fixed."""

    names: Names
    spki_der: bytes
    endpoints: tuple[str, ...] | None = None
    capabilities: Capabilities | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Issued:
    """A certificate that passed `check_issued`; `chain` starts with the leaf and omits the root."""

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
    """Find our certificate among those returned, in any order, and check it.

    Raises InternalFault for an answer that no honest authority gives, Forbidden for one that it did not sign
    or that is not valid now.

    1. One of them certifies our key. 2. A chain leads from it to the pinned root, each signature verified.
    3. Every certificate of the chain is valid now. 4. The names are ours. 5. Endpoints and capabilities are
    no more than was asked for.
    """
    # 1. and 2.
    chain = _chain(list(certificates), wanted.spki_der, root)
    # 3. the root, too, though RFC 5280 section 6.1 does not ask for it: an expired root ends all trust
    for certificate in (*chain, root):
        if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
            raise Forbidden(
                "a certificate of the chain is not valid now; is the clock right?", rule="validity"
            )
    # 4. and 5.
    try:
        identity = identity_of(chain[0])
    except BadInput as exc:
        raise InternalFault(f"issued certificate carries no Ostiary identity: {exc.message}") from exc
    _check_identity(identity, wanted)
    return Issued(chain=unread(chain), identity=identity)


def unread(chain: Iterable[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return the same certificates as nobody has read them: pyca keeps extensions that were, 4 kB or more."""
    return tuple(x509.load_der_x509_certificate(each.public_bytes(Encoding.DER)) for each in chain)


def _chain(
    certificates: Sequence[x509.Certificate], wanted_spki: bytes, root: x509.Certificate
) -> tuple[x509.Certificate, ...]:
    # 1. by SubjectPublicKeyInfo: a name can be repeated, our key cannot
    leaf = next((each for each in certificates if _spki(each) == wanted_spki), None)
    if leaf is None:
        raise InternalFault("the authority returned no certificate for our key")
    # 2. By issuer name upwards. The bound ends the loop where two certificates name each other as issuer.
    chain = [leaf]
    while chain[-1].issuer != root.subject:
        issuer = next((each for each in certificates if each.subject == chain[-1].issuer), None)
        if issuer is None or len(chain) == _MAX_CHAIN:
            raise InternalFault("the authority's certificates do not lead to the pinned root")
        _check_signature(chain[-1], issuer)
        chain.append(issuer)
    _check_signature(chain[-1], root)
    return tuple(chain)


def _spki(certificate: x509.Certificate) -> bytes:
    try:
        return spki_der(accept_public_key(certificate.public_key()))
    except (BadInput, ValueError):
        return b""  # a key of a kind that we never ask for, so it equals none of ours


def _check_signature(certificate: x509.Certificate, issuer: x509.Certificate) -> None:
    try:
        constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound) as exc:
        raise Forbidden(
            "the certificate does not chain to the application's pinned root", rule="pinned-root"
        ) from exc
    # RFC 5280 section 6.1.4 (k). Without it, any agent's key could sign for another agent: CVE-2002-0862.
    if not constraints.ca:
        raise Forbidden("the certificate's issuer is not a CA", rule="pinned-root")


def _check_identity(identity: Identity, wanted: Wanted) -> None:
    # 4. all four names, each by itself, so that the message says which one differs
    names = wanted.names
    for name in ("application", "subsystem", "node", "agent"):
        found, asked = getattr(identity, name), getattr(names, name)
        if found != asked:
            raise InternalFault(f"the authority certified {name} '{found}' instead of '{asked}'")
    # 5. endpoints exactly; capabilities may be fewer, because the spawner's own certificate caps them
    endpoints = sorted(map(str, identity.endpoints))
    if wanted.endpoints is not None and endpoints != sorted(wanted.endpoints):
        raise InternalFault("the authority certified other endpoints than requested")
    if wanted.capabilities is not None and not identity.capabilities <= wanted.capabilities:
        raise InternalFault("the authority certified capabilities that were not requested")
