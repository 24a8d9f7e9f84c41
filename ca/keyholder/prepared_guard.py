"""Whether a recorded certificate may be signed: its bytes are of the profile and say what the record's plain
fields say.

Two ways lead to one outcome:
1. The guard's rules check the record's fields, and the certificate is written from them a second time
   (ca/certificates/leaf_template.py): if the bytes are the same, they may be signed. Every certificate that
   our own front plans goes this way.
2. What the first way does not take, the guard reads and compares field by field. This way names the broken
   rule; it also takes a record that lists the same endpoints in another order.

A test holds the first to the second: what the first takes, the second takes, as the same identity. The double
is deliberate: the first way parses nothing that a front wrote but the public key.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_der_public_key

from ca.certificates.leaf_template import Leaf
from ca.evaluated_items import Prepared
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
    """The first way: whose certificate it will be, or None where the second must look.

    1. Validity and shard are in range.
    2. The record's fields are a serial number and an identity of this application, each in its one form.
    3. Its node lies in a node domain.
    4. The bytes are the certificate that says just this.
    5. The key in it is the recorded one, and sound.
    """
    # 1.
    if not _is_in_range(prepared, guard, now):
        return None
    # 2.
    try:
        leaf = _leaf(prepared, guard)
    except BadInput:
        return None
    # 3. and 4.
    within = any(is_within(leaf.identity.node, domain) for domain in guard.node_domains)
    public_key = guard.template.public_key_in(prepared.tbs, leaf) if within else None
    # 5.
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
    """The leaf that the record describes; BadInput where it is no leaf, or not described in the one form."""
    # `parse_capabilities` makes a set: names that are there twice would vanish, and the record would say more
    # than the certificate.
    serial_number = parse_serial_hex(prepared.serial)
    capabilities = parse_capabilities(prepared.capabilities)
    if serial_number.bit_length() > MAX_SERIAL_BITS or len(capabilities) != len(prepared.capabilities):
        raise BadInput("certificate: the serial number is too long, or a capability occurs twice")
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
    """Whether this CA certifies keys of this kind, and these bytes (SubjectPublicKeyInfo, DER) are its one
    encoding.
    """
    try:
        return spki_der(accept_public_key(load_der_public_key(public_key))) == public_key
    except (BadInput, ValueError, UnsupportedAlgorithm):
        return False


def identity_by_reading(prepared: Prepared, guard: CertificateGuard, now: datetime) -> Identity:
    """The second way: read the bytes, then compare each field with the record's; Forbidden names the rule."""
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
