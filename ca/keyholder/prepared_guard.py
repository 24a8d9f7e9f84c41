"""Whether a recorded certificate may be signed: its bytes are of the profile, and the record's plain fields
say the same as they do.

Two ways with one outcome:
1. The record's fields are checked by the guard's rules, and the certificate is written from them a second
   time (ca/certificates/leaf_template.py): the same bytes may be signed. That is every certificate that our
   own front plans.
2. What the first way does not take is read by the guard and compared field by field. It names the rule that
   is broken; it also takes a record that lists the same endpoints in another order.

A test holds the first to the second: what it takes, the second takes, and as the same identity.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca.certificates.leaf_template import Leaf
from ca.items import Prepared
from ca.keyholder.certificate_guard import (
    CLOCK_TOLERANCE,
    MAX_SERIAL_BITS,
    MAX_SHARD,
    MAX_VALIDITY,
    CertificateGuard,
    check_tbs_certificate,
    shard_of,
)
from ostiary.capabilities import parse_capabilities
from ostiary.certificate import (
    accept_public_key,
    parse_serial_hex,
    parse_tbs,
    serial_hex,
    spki_der,
    spki_digest,
)
from ostiary.errors import BadInput, Forbidden
from ostiary.identity import Identity, parse_endpoint
from ostiary.names import is_within, parse_agent_id, parse_node, parse_subsystem
from ostiary.subsystems import SERVICES

_CLOCK_TOLERANCE_S: Final = CLOCK_TOLERANCE.total_seconds()
_MAX_VALIDITY_S: Final = MAX_VALIDITY.total_seconds()


def check_prepared(prepared: Prepared, guard: CertificateGuard, now: datetime) -> Identity:
    """Return whose certificate it will be; Forbidden names the rule."""
    return identity_by_template(prepared, guard, now) or identity_by_reading(prepared, guard, now)


def identity_by_template(prepared: Prepared, guard: CertificateGuard, now: datetime) -> Identity | None:
    """The first way: whose certificate it will be, or None where it takes a closer look.

    1. Serial number, validity and shard are in range.  2. The names are an identity of this application, in a
       node domain.
    3. The bytes are the certificate that says just this.  4. The key in it is sound, and the recorded one.
    """
    if not _is_in_range(prepared, guard, now):
        return None
    try:
        leaf = _leaf(prepared, guard)
    except BadInput:
        return None
    within = any(is_within(leaf.identity.node, domain) for domain in guard.node_domains)
    public_key = guard.template.public_key_in(prepared.tbs, leaf) if within else None
    if public_key is None or hashlib.sha256(public_key).digest() != prepared.spki_digest:
        return None
    return leaf.identity if _is_sound(public_key) else None


def _is_in_range(prepared: Prepared, guard: CertificateGuard, now: datetime) -> bool:
    not_before, not_after = prepared.not_before, prepared.not_after
    latest = min(not_before + _MAX_VALIDITY_S, guard.issuer_not_after.timestamp())
    return (
        abs(now.timestamp() - not_before) <= _CLOCK_TOLERANCE_S
        and not_before < not_after <= latest
        and 0 <= prepared.shard <= MAX_SHARD
    )


def _leaf(prepared: Prepared, guard: CertificateGuard) -> Leaf:
    """What the record says; BadInput where that is no identity, or not said in its one form."""
    serial_number = parse_serial_hex(prepared.serial)
    capabilities = parse_capabilities(prepared.capabilities)
    if serial_number.bit_length() > MAX_SERIAL_BITS or len(capabilities) != len(prepared.capabilities):
        raise BadInput("certificate: serial number too long, or capabilities doubled")
    subsystem = parse_subsystem(prepared.subsystem)
    identity = Identity(
        application=guard.application,
        subsystem=subsystem,
        node=parse_node(prepared.node),
        agent=parse_agent_id(prepared.agent),
        endpoints=tuple(parse_endpoint(url) for url in prepared.endpoints),
        capabilities=capabilities,
        node_name_in_san=subsystem in SERVICES,
    )
    return Leaf(
        identity=identity,
        capabilities=capabilities,
        serial_number=serial_number,
        not_before=prepared.not_before,
        not_after=prepared.not_after,
        shard=prepared.shard,
    )


def _is_sound(public_key: bytes) -> bool:
    """Whether it is a key of a kind that this CA certifies, in its one encoding
    (SubjectPublicKeyInfo, DER).
    """
    try:
        return spki_der(accept_public_key(load_der_public_key(public_key))) == public_key
    except (BadInput, ValueError, UnsupportedAlgorithm):
        return False


def identity_by_reading(prepared: Prepared, guard: CertificateGuard, now: datetime) -> Identity:
    """The second way; Forbidden names the rule."""
    identity = check_tbs_certificate(prepared.tbs, guard, now)
    parsed = parse_tbs(prepared.tbs)
    read = (
        serial_hex(parsed.serial_number),
        identity.subsystem,
        identity.node,
        identity.agent,
        sorted(identity.capabilities),
        sorted(str(endpoint) for endpoint in identity.endpoints),
        int(parsed.not_valid_before_utc.timestamp()),
        int(parsed.not_valid_after_utc.timestamp()),
        shard_of(parsed, guard),
        spki_digest(parsed),
    )
    recorded = (
        prepared.serial,
        prepared.subsystem,
        prepared.node,
        prepared.agent,
        sorted(prepared.capabilities),
        sorted(prepared.endpoints),
        prepared.not_before,
        prepared.not_after,
        prepared.shard,
        prepared.spki_digest.hex(),
    )
    if read != recorded:
        raise Forbidden("the record describes another certificate", rule="record-differs")
    return identity
