"""The guard's first way takes nothing that its second, which reads the bytes, refuses; and every certificate
that we plan.

Whoever is inside the front and the recorder chooses both the bytes and what is recorded of them, so that each
broken certificate comes with two records: that of the right one, and what pyca/cryptography reads out of the
broken one itself.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given

from ca.certificates.profile import LeafPlan, build_tbs
from ca.items import Prepared
from ca.keyholder.certificate_guard import shard_of
from ca.keyholder.prepared_guard import check_prepared, identity_by_reading, identity_by_template
from ostiary import der
from ostiary.certificate import PublicKey, parse_tbs, serial_hex, spki_digest
from ostiary.errors import BadInput, Forbidden
from ostiary.identity import Identity, identity_of, parse_endpoint
from tests.ca.keyholder import test_certificate_guard as guard_cases
from tests.support.certificates import AGENT, HOST, IDENTITY, NODE, URL
from tests.support.independent_certificates import KEYS, plans, tbs_by_pyca

CA = guard_cases.CA
NOW = CA.now
TBS = guard_cases.TBS

FIELDS: dict[str, Callable[[x509.Certificate], Any]] = {
    "serial": lambda read: serial_hex(read.serial_number),
    "subsystem": lambda read: identity_of(read).subsystem,
    "node": lambda read: identity_of(read).node,
    "agent": lambda read: identity_of(read).agent,
    "capabilities": lambda read: tuple(sorted(identity_of(read).capabilities)),
    "endpoints": lambda read: tuple(str(endpoint) for endpoint in identity_of(read).endpoints),
    "not_before": lambda read: int(read.not_valid_before_utc.timestamp()),
    "not_after": lambda read: int(read.not_valid_after_utc.timestamp()),
    "shard": lambda read: shard_of(read, CA.guard),
    "spki_digest": lambda read: bytes.fromhex(spki_digest(read)),
}
UNREADABLE = (
    BadInput,
    Forbidden,
    IndexError,
    TypeError,
    UnsupportedAlgorithm,
    ValueError,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)
pytestmark = pytest.mark.filterwarnings("ignore:Parsed a serial number")


def as_read(tbs: bytes, default: Prepared | None = None) -> Prepared:
    """The record that these bytes deserve, by the library's reading; what it can't read is as in
    `default`.
    """
    values: dict[str, Any] = {} if default is None else msgspec.structs.asdict(default)
    with suppress(*(UNREADABLE if default else ())):
        certificate = parse_tbs(tbs)
        for name, read in FIELDS.items():
            with suppress(*(UNREADABLE if default else ())):
                values[name] = read(certificate)
    return Prepared(**{**values, "tbs": tbs})


RIGHT = as_read(TBS)


def taken(record: Prepared) -> Identity | None:
    """Hold the first way to the second; whose certificate the first takes it for."""
    identity = identity_by_template(record, CA.guard, NOW)
    if identity is not None:
        assert identity_by_reading(record, CA.guard, NOW) == identity
    return identity


def compare(tbs: bytes) -> bool:
    """Try broken bytes with both records; whether the first way took them with their own."""
    assert tbs == TBS or taken(msgspec.structs.replace(RIGHT, tbs=tbs)) is None
    return taken(as_read(tbs, RIGHT)) is not None


@given(plans(CA))
def test_every_plan_is_taken_and_read_alike(planned: tuple[LeafPlan, PublicKey]) -> None:
    plan, key = planned
    record = as_read(tbs_by_pyca(CA, plan, key))
    carried = frozenset[Any]() if plan.pending else plan.identity.capabilities
    assert taken(record) == dataclasses.replace(plan.identity, capabilities=carried)
    assert check_prepared(record, CA.guard, NOW) == identity_by_reading(record, CA.guard, NOW)


def test_no_changed_bit_is_taken_that_reading_refuses() -> None:
    others = 0
    for position in range(len(TBS)):
        for bit in range(8):
            broken = bytearray(TBS)
            broken[position] ^= 1 << bit
            others += compare(bytes(broken))
    # Another serial number, second or sub-system is another right certificate, once its record says so, too.
    assert others > 100


def encoded(tag: int, content: bytes, *, more_length: int = 0) -> bytes:
    """A TLV, its length with so many octets more than it needs."""
    written = der.tlv(tag, content)
    if not more_length:
        return written
    octets = len(content).to_bytes((len(content).bit_length() + 7) // 8 + more_length - 1, "big")
    return bytes((tag, 0x80 | len(octets))) + octets + content


def mutants(data: bytes) -> Iterator[bytes]:
    """Each value in a sequence of TLVs, at any depth (also in OCTET STRINGs): dropped, doubled, swapped, and
    told otherwise.
    """
    parts = [bytes(item) for _, item in der.items(data)]
    for at, part in enumerate(parts):
        before, behind = b"".join(parts[:at]), b"".join(parts[at + 1 :])
        tag, start, _ = der.read(part)
        content = part[start:]
        yield before + behind
        yield before + part + part + behind
        for to in range(at):  # in front of each earlier one
            yield b"".join([*parts[:to], part, *parts[to:at], behind])
        for more in (1, 2):
            yield before + encoded(tag, content, more_length=more) + behind
        yield before + bytes((tag, 0x80)) + content + b"\x00\x00" + behind
        for other in {0x01, 0x02, 0x04, 0x0C, 0x13, 0x16, 0x17, 0x18, 0x30, 0x31, tag ^ 0x20, tag ^ 0x80}:
            yield before + encoded(other, content) + behind
        for more_content in (b"\x05\x00", b"\x00", b"\x01\x01\x00", b"\x01\x01\xff"):
            yield before + encoded(tag, content + more_content) + behind
            yield before + encoded(tag, more_content + content) + behind
            yield before + part + more_content + behind
        yield before + encoded(tag, content.upper()) + behind
        yield before + encoded(tag, content[:-1]) + behind
        if is_nested(tag, content):
            for inner in mutants(content):
                yield before + encoded(tag, inner) + behind


def spki_of(key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def is_nested(tag: int, content: bytes) -> bool:
    if not content or not (tag & 0x20 or tag == der.OCTET_STRING):
        return False
    try:
        return sum(len(item) for _, item in der.items(content)) == len(content)
    except BadInput:
        return False


def with_flags(*, critical: bool) -> Iterator[bytes]:
    """Each extension's critical flag turned over, or FALSE written out where DER leaves it out."""
    for extension in CA.sign(TBS).extensions:
        oid, value = der.oid(extension.oid.dotted_string), der.octet_string(extension.value.public_bytes())
        told = der.boolean_true() if extension.critical else b""
        turned = b"" if extension.critical else der.boolean_true()
        old = der.sequence(oid, told, value)
        assert TBS.count(old) == 1
        yield with_extension(old, der.sequence(oid, turned if critical else b"\x01\x01\x00", value))


def with_extension(old: bytes, new: bytes) -> bytes:
    """TBS with one extension replaced, and the lengths around it made right."""
    *head, last = (item for _, item in der.items(der.expect(TBS, der.SEQUENCE, what="TBS")))
    members = der.expect(der.expect(last, 0xA3, what="[3]"), der.SEQUENCE, what="extensions")
    return der.sequence(*head, der.explicit(3, der.sequence(members.replace(old, new))))


def test_no_other_structure_is_taken_that_reading_refuses() -> None:
    tried = [*mutants(TBS), *with_flags(critical=True), *with_flags(critical=False)]
    assert len(tried) > 3000
    own = sum(compare(tbs) for tbs in tried if tbs != TBS)
    # One capability or endpoint less, and pending (none at all), are right certificates.
    assert 0 < own < 20


@pytest.mark.parametrize("case", guard_cases.BAD)
def test_what_the_guard_refuses_is_refused_by_its_name_with_its_own_record(case: str) -> None:
    changes, rule = guard_cases.BAD[case]
    record = as_read(guard_cases.rebuilt(**changes), RIGHT)
    assert identity_by_template(record, CA.guard, NOW) is None
    with pytest.raises(Forbidden) as refusal:
        check_prepared(record, CA.guard, NOW)
    assert refusal.value.rule == f"guard-{rule}"


@pytest.mark.parametrize(
    "changes",
    [{"application": "other.example"}, {"node": "n1.evil.example"}, {"node": "n1.evilshop.example"}],
    ids=str,
)
def test_another_trust_domain_is_not_taken(changes: dict[str, Any]) -> None:
    identity = dataclasses.replace(IDENTITY, endpoints=(), **changes)
    record = as_read(build_tbs(CA.profile, dataclasses.replace(CA.plan(), identity=identity)))
    assert taken(record) is None


def test_it_may_not_outlive_the_issuer() -> None:
    ending = dataclasses.replace(CA.guard, issuer_not_after=NOW + guard_cases.HOUR)
    assert identity_by_template(RIGHT, ending, NOW) is None
    with pytest.raises(Forbidden):
        check_prepared(RIGHT, ending, NOW)


ODD: dict[str, dict[str, Any]] = {
    "capability doubled": {"capabilities": ("credential:use", "credential:use", "spawn:component")},
    "capability left out": {"capabilities": ("credential:use",)},
    "no capability's name": {"capabilities": ("*", "credential:use", "spawn:component")},
    "endpoint doubled": {"endpoints": (URL, URL)},
    "endpoint of another": {"endpoints": (URL.replace(AGENT, AGENT.replace("5", "6")),)},
    "endpoint in another form": {"endpoints": (URL.upper(),)},
    "serial in upper case": {"serial": RIGHT.serial.upper()},
    "serial with a zero in front": {"serial": "00" + RIGHT.serial},
    "serial negative": {"serial": "-1"},
    "serial empty": {"serial": ""},
    "shard negative": {"shard": -3},
    "shard too large": {"shard": 10**18},
    "begins never": {"not_before": -(1 << 63)},
    "ends never": {"not_after": (1 << 64) - 1},
    "another time": {"not_before": RIGHT.not_before + 1},
    "node with a dot behind": {"node": f"{NODE}."},
    "node in upper case": {"node": NODE.upper()},
    "node is the host": {"node": HOST},
    "sub-system empty": {"subsystem": ""},
    "sub-system is a service": {"subsystem": "credentials-service"},
    "agent in braces": {"agent": f"{{{AGENT}}}"},
    "digest of nothing": {"spki_digest": b""},
    "digest in hex": {"spki_digest": RIGHT.spki_digest.hex().encode()},
}


@pytest.mark.parametrize("case", ODD)
def test_a_record_that_says_it_otherwise_is_refused(case: str) -> None:
    record = msgspec.structs.replace(RIGHT, **ODD[case])
    assert taken(record) is None
    with pytest.raises(Forbidden) as refusal:
        check_prepared(record, CA.guard, NOW)
    assert refusal.value.rule == "record-differs"


@pytest.mark.parametrize("shard", [-3, 10**18])
def test_a_shard_that_is_none_is_not_taken_though_the_bytes_say_it(shard: int) -> None:
    tbs = build_tbs(CA.profile, CA.plan(shard=shard))
    record = msgspec.structs.replace(RIGHT, tbs=tbs, shard=shard)
    assert taken(record) is None
    with pytest.raises(Forbidden):
        check_prepared(record, CA.guard, NOW)


def test_the_same_endpoints_in_another_order_are_read() -> None:
    ports = (URL, URL.replace("8443", "1"))
    identity = dataclasses.replace(IDENTITY, endpoints=tuple(map(parse_endpoint, ports)))
    record = as_read(build_tbs(CA.profile, CA.plan(identity)))
    turned = msgspec.structs.replace(record, endpoints=tuple(reversed(record.endpoints)))
    assert taken(record) == identity
    assert taken(turned) is None
    assert check_prepared(turned, CA.guard, NOW) == identity


def test_a_key_is_taken_in_its_one_encoding_only() -> None:
    """A compressed point is the same key; its digest may be told either way."""
    key = KEYS["P-256"]
    assert isinstance(key, ec.EllipticCurvePublicKey)
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    _, algorithm, _ = der.read(CA.plan().spki_der)
    ec_p256 = next(item for _, item in der.items(CA.plan().spki_der[algorithm:]))
    compressed = der.sequence(ec_p256, der.bit_string(point))
    tbs = build_tbs(CA.profile, dataclasses.replace(CA.plan(), spki_der=compressed))
    for digest in (hashlib.sha256(compressed).digest(), RIGHT.spki_digest):
        assert taken(msgspec.structs.replace(RIGHT, tbs=tbs, spki_digest=digest)) is None


@pytest.mark.parametrize("kind", ["not on the curve", "another curve", "RSA with exponent 3", "nothing"])
def test_an_unsound_key_is_not_taken_though_its_digest_is_recorded(kind: str) -> None:
    plan = CA.plan()
    spki = {
        "not on the curve": plan.spki_der[:-1] + bytes((plan.spki_der[-1] ^ 1,)),
        "another curve": spki_of(ec.generate_private_key(ec.SECP521R1()).public_key()),
        "RSA with exponent 3": spki_of(rsa.generate_private_key(3, 2048).public_key()),
        "nothing": der.sequence(der.sequence(der.null()), der.bit_string(b"")),
    }[kind]
    tbs = build_tbs(CA.profile, dataclasses.replace(plan, spki_der=spki))
    record = msgspec.structs.replace(RIGHT, tbs=tbs, spki_digest=hashlib.sha256(spki).digest())
    assert taken(record) is None
    with pytest.raises(Forbidden):
        check_prepared(record, CA.guard, NOW)
