"""A recorder that was broken into: the keyholder does nothing that is not in its batch, and nothing other
than what is recorded.

Each bad case differs from the good one in one respect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import msgspec
import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from ca.certificates.profile import build_tbs
from ca.items import FrontCertificate, Prepared, Redeem
from ca.keyholder.evaluator import CAEvaluator
from ca.keyholder.keys import CAKeys
from ostiary.capabilities import parse_capabilities
from ostiary.certificate import serial_hex
from ostiary.identity import Identity
from ostiary.keyholder.engine import Keyholder
from ostiary.keyholder.protocol import Batch, Done, Refusal, Resume, Work, encode_message
from ostiary.keyholder.witness import Witness
from ostiary.ledger.tree import leaf_hash
from ostiary.subsystems import CERTIFICATE_AUTHORITY
from ostiary.work.entry import AUTHORIZED, Verdict, build_entry
from ostiary.work.item import Item, RawItem
from ostiary.work.item_encoding import encode_item
from tests.ostiary.keyholder.test_witness import MemoryHighWater
from tests.support.ca_authority import CONFIG, LEAF_KEY, AuthorityForTests
from tests.support.certificates import IDENTITY

AUTHORITY = AuthorityForTests()
NOW = AUTHORITY.now
NOW_MS = int(NOW.timestamp() * 1000)


def pkcs8(key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def keyholder(now: datetime = NOW) -> Keyholder:
    ledger_key = Ed25519PrivateKey.generate()
    keys = CAKeys(
        application=IDENTITY.application,
        issuing_certificate=AUTHORITY.issuing.public_bytes(Encoding.DER),
        ocsp_url=CONFIG.ocsp_url,
        ca_issuers_url=CONFIG.ca_issuers_url,
        crl_base_url=CONFIG.crl_base_url,
        issuing_key=pkcs8(AUTHORITY.key),
        ledger_key=pkcs8(ledger_key),
    )
    witness = Witness(origin="shop.example/ca", key=ledger_key, high_water=MemoryHighWater())
    witness.resume(Resume(note=b"", size=0, peaks=b""))
    return Keyholder(witness=witness, evaluator=CAEvaluator(keys), clock=lambda: now)


def prepared(identity: Identity = IDENTITY, lifetime: timedelta = timedelta(hours=2)) -> Prepared:
    plan = AUTHORITY.plan(identity, lifetime=lifetime)
    return Prepared(
        serial=serial_hex(plan.serial_number),
        subsystem=identity.subsystem,
        node=identity.node,
        agent=identity.agent,
        capabilities=tuple(sorted(identity.capabilities)),
        endpoints=tuple(str(endpoint) for endpoint in identity.endpoints),
        not_before=int(plan.not_before.timestamp()),
        not_after=int(plan.not_after.timestamp()),
        shard=int(plan.shard),
        spki_digest=_digest(plan.spki_der),
        tbs=build_tbs(AUTHORITY.profile, plan),
    )


def _digest(content: bytes) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(content)
    return digest.finalize()


def redeem(certificate: Prepared | None = None) -> Redeem:
    made = certificate or prepared()
    return Redeem(token_id="t1", token_digest=b"\x01" * 32, address="127.0.0.1", certificate=made)


def batch(item: Item, *, entry: bytes | None = None, offset: int = 0, at_ms: int = NOW_MS) -> Batch:
    raw = encode_item(item)
    leaf = leaf_hash(entry or build_entry(item, raw, AUTHORIZED, at_ms=at_ms))
    return Batch(first=0, leaf_hashes=leaf, work=(Work(offset=offset, at_ms=at_ms, item=raw),))


def outcome(sent: Batch, holder: Keyholder | None = None) -> tuple[bytes, str | None]:
    answer = (holder or keyholder()).answer(encode_message(sent))
    assert isinstance(answer, Done)
    return answer.results[0].output, answer.results[0].refused


def test_recorded_work_is_signed_and_the_signature_verifies() -> None:
    item = redeem()
    signature, refused = outcome(batch(item))
    assert refused is None
    AUTHORITY.key.public_key().verify(signature, item.certificate.tbs, ec.ECDSA(hashes.SHA256()))


def test_signing_again_gives_the_same_bytes() -> None:
    assert outcome(batch(redeem())) == outcome(batch(redeem()))


def _another_entry(item: Redeem) -> Batch:
    return batch(item, entry=b'{"act":"00"}')


def _denied_entry(item: Redeem) -> Batch:
    entry = build_entry(
        item, encode_item(item), Verdict("denied", "token-spent", "it was spent"), at_ms=NOW_MS
    )
    return batch(item, entry=entry)


def _entry_of_another_item(item: Redeem) -> Batch:
    other = msgspec.structs.replace(item, token_id="t2")
    return batch(item, entry=build_entry(other, encode_item(other), AUTHORIZED, at_ms=NOW_MS))


def _prettier_entry(item: Redeem) -> Batch:
    """The right digest in front, and a lie about the rest behind it."""
    honest = build_entry(item, encode_item(item), AUTHORIZED, at_ms=NOW_MS)
    return batch(item, entry=honest.replace(b'"127.0.0.1"', b'"127.0.0.2"'))


def _outside_the_batch(item: Redeem) -> Batch:
    return batch(item, offset=1)


def _before_the_batch(item: Redeem) -> Batch:
    return batch(item, offset=-1)


@pytest.mark.parametrize(
    "forge",
    [
        _another_entry,
        _denied_entry,
        _entry_of_another_item,
        _prettier_entry,
        _outside_the_batch,
        _before_the_batch,
    ],
)
def test_work_without_its_entry_in_the_batch_is_refused(forge: Callable[[Redeem], Batch]) -> None:
    assert outcome(forge(redeem())) == (b"", "entry-not-in-batch")


@pytest.mark.parametrize("skew_s", [-61, 61])
def test_a_record_from_another_time_is_refused(skew_s: int) -> None:
    assert outcome(batch(redeem(), at_ms=NOW_MS + skew_s * 1000)) == (b"", "entry-time")


@pytest.mark.parametrize(
    "lie",
    [
        {"serial": "0b"},
        {"subsystem": "node-controller"},
        {"node": "n2.nodes.shop.example"},
        {"agent": "00000000-0000-4000-8000-000000000000"},
        {"capabilities": ()},
        {"endpoints": ("https+tcp://x.n1.nodes.shop.example:1",)},
        {"not_before": 1},
        {"not_after": 2_000_000_000},
        {"shard": 4},
        {"spki_digest": b"\x00" * 32},
    ],
)
def test_a_record_that_describes_another_certificate_is_refused(lie: dict[str, object]) -> None:
    told = msgspec.structs.replace(prepared(), **lie)
    assert outcome(batch(redeem(told))) == (b"", "record-differs")


def test_only_the_front_gets_the_cas_own_name() -> None:
    identity = replace(
        IDENTITY,
        subsystem=CERTIFICATE_AUTHORITY,
        node_name_in_san=True,
        capabilities=parse_capabilities(()),
    )
    made = prepared(identity)
    assert outcome(batch(redeem(made))) == (b"", "authority-name")
    assert outcome(batch(FrontCertificate(certificate=made)))[1] is None
    assert outcome(batch(FrontCertificate(certificate=prepared()))) == (b"", "authority-name")


def test_an_agent_does_not_get_its_nodes_name() -> None:
    assert outcome(batch(redeem(prepared(replace(IDENTITY, node_name_in_san=True))))) == (b"", "node-name")


def test_more_than_a_day_is_refused() -> None:
    assert outcome(batch(redeem(prepared())), keyholder(NOW + timedelta(minutes=6)))[1] == "entry-time"
    late = keyholder(NOW + timedelta(minutes=6))
    at_ms = NOW_MS + 6 * 60 * 1000
    assert outcome(batch(redeem(), at_ms=at_ms), late)[1] == "guard-not-before"


def test_a_bad_item_fails_alone() -> None:
    good, bad = redeem(), redeem(msgspec.structs.replace(prepared(), serial="0b"))
    entries = [build_entry(i, encode_item(i), AUTHORIZED, at_ms=NOW_MS) for i in (good, bad)]
    work = (
        Work(offset=0, at_ms=NOW_MS, item=encode_item(good)),
        Work(offset=1, at_ms=NOW_MS, item=encode_item(bad)),
        Work(offset=1, at_ms=NOW_MS, item=RawItem(b"\xc1")),
    )
    sent = Batch(first=0, leaf_hashes=b"".join(leaf_hash(e) for e in entries), work=work)
    answer = keyholder().answer(encode_message(sent))
    assert isinstance(answer, Done)
    assert [r.refused for r in answer.results] == [None, "record-differs", "bad-input"]


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x80", encode_message(batch(redeem()))[:-2]])
def test_what_is_no_message_is_refused_as_a_whole(body: bytes) -> None:
    assert isinstance(keyholder().answer(body), Refusal)


def test_the_leaf_key_is_not_the_cas() -> None:
    """The builders sign with the authority's key; if they didn't, the tests above would prove nothing."""
    assert LEAF_KEY.public_key() != AUTHORITY.key.public_key()
