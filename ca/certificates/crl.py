"""Certificate revocation lists: one per shard, a complete one, and their entries as ready DER.

Rules:
- An entry is encoded once, when the certificate is revoked, and kept; a list is its entries put together.
- A shard's list carries a critical IDP with the URL of the leaf's CRLDP; the complete list has no IDP.
- thisUpdate decides which of two lists is newer, so it grows by at least a second per list
  (ca/recorder/publishing.py sees to it); CRLNumber grows too. OpenSSL keeps the first of two lists of one
  second, and so missed a revocation when this was tried.
- A reason of unspecified is left out (RFC 5280 section 5.3.1).

Standard: RFC 5280 section 5.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum
from typing import Final

from ostiary import der
from ostiary.certificate import assemble
from ostiary.errors import BadInput

_VERSION_2: Final = der.integer(1)  # RFC 5280 section 5.1.2.1: v2 is written as 1
_REASON_CODE: Final = der.oid("2.5.29.21")
_AUTHORITY_KEY: Final = der.oid("2.5.29.35")
_CRL_NUMBER: Final = der.oid("2.5.29.20")
_ISSUING_DISTRIBUTION_POINT: Final = der.oid("2.5.29.28")
_URI: Final = 6  # GeneralName: uniformResourceIdentifier [6] IA5String


class ReasonCode(IntEnum):
    """CRLReason of RFC 5280 section 5.3.1, as far as this CA uses it (no hold, no delta lists, no attribute
    authorities).
    """

    unspecified = 0
    keyCompromise = 1  # noqa: N815 -- the standard's spelling
    cACompromise = 2  # noqa: N815
    affiliationChanged = 3  # noqa: N815
    superseded = 4
    cessationOfOperation = 5  # noqa: N815
    privilegeWithdrawn = 9  # noqa: N815


@dataclass(frozen=True, slots=True, kw_only=True)
class CRLIssuer:
    """Who issues a list: DER Name, key identifier, DER AlgorithmIdentifier of its signatures."""

    subject_der: bytes
    key_identifier: bytes
    signature_algorithm_der: bytes


def parse_reason(text: str) -> ReasonCode:
    """Parse a reason by its RFC 5280 name (`keyCompromise`); BadInput names `reason` and the names
    there are.
    """
    try:
        return ReasonCode[text]
    except KeyError as exc:
        known = ", ".join(reason.name for reason in ReasonCode)
        raise BadInput(f"reason: {text[:64]!r} is not one of {known}", field="reason") from exc


def build_entry(*, serial_number: int, revoked_at: datetime, reason: ReasonCode) -> der.DER:
    """Encode one member of revokedCertificates (DER), 53 bytes with a reason.

    SEQUENCE { userCertificate INTEGER, revocationDate Time, crlEntryExtensions OPTIONAL }
    """
    extensions = b""
    if reason is not ReasonCode.unspecified:
        code = der.octet_string(der.enumerated(reason))
        extensions = der.sequence(der.sequence(_REASON_CODE, code))
    return der.sequence(der.integer(serial_number), der.time(revoked_at), extensions)


def build_tbs_cert_list(
    issuer: CRLIssuer,
    entries: Iterable[bytes],
    *,
    crl_number: int,
    this_update: datetime,
    next_update: datetime,
    shard_url: str | None,
) -> der.DER:
    """Write a TBSCertList (DER); `entries` are `build_entry` results, `shard_url` is None for a complete
    list.
    """
    # Kept as ready DER: building pyca's objects anew for 100,000 entries takes 1.2 s, joining these 5.3 MB
    # some ms.
    revoked = b"".join(entries)
    extensions = [
        _extension(_AUTHORITY_KEY, der.sequence(der.implicit(0, issuer.key_identifier))),
        _extension(_CRL_NUMBER, der.integer(crl_number)),
    ]
    if shard_url is not None:
        # IssuingDistributionPoint { [0] DistributionPointName { [0] fullName { URI } } }. Critical, as RFC
        # 5280 section 5.2.5 says: a verifier that ignores it would take this shard for the list of all. NSS
        # and mbedTLS 2.28 refuse such a list; for them there is the complete one.
        name = der.explicit(0, der.explicit(0, der.implicit(_URI, shard_url.encode("ascii"))))
        extensions.append(_extension(_ISSUING_DISTRIBUTION_POINT, der.sequence(name), critical=True))
    # TBSCertList ::= SEQUENCE { version, signature, issuer, thisUpdate, nextUpdate,
    #                            revokedCertificates OPTIONAL, crlExtensions [0] }
    return der.sequence(
        _VERSION_2,
        issuer.signature_algorithm_der,
        issuer.subject_der,
        der.time(this_update),
        der.time(next_update),
        der.tlv(der.SEQUENCE, revoked) if revoked else b"",  # absent when empty (RFC 5280 section 5.1.2.6)
        der.explicit(0, der.sequence_of(extensions)),
    )


def assemble_crl(tbs: bytes, issuer: CRLIssuer, signature: bytes) -> der.DER:
    """Return the CertificateList (DER)."""
    return assemble(tbs, issuer.signature_algorithm_der, signature)


def _extension(oid: bytes, value: bytes, *, critical: bool = False) -> der.DER:
    return der.sequence(oid, der.boolean_true() if critical else b"", der.octet_string(value))
