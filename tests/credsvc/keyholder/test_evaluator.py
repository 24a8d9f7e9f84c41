"""The keyholder of a credentials service: approvals, secrets taken in, formulas evaluated; and all that it
refuses.
"""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from credsvc.intake import EnvelopePlace
from credsvc.intake_document import encrypt_to_intake
from credsvc.items import ApproveModule, PutCredential, Use, approval_statement
from credsvc.keyholder.evaluator import CredentialEvaluator
from credsvc.keyholder.keys import CredentialKeys
from credsvc.keyholder.sealed_credential import (
    Description,
    SealedCredential,
    open_credential,
    seal_credential,
)
from ostiary.errors import BadInput, Forbidden, OstiaryError
from ostiary.keyholder.protocol import Document
from ostiary.keyholder.seal import Sealer
from ostiary.secret import Secret
from ostiary.shipped import module_library
from ostiary.work.item import Operator, Peer
from ostiary.work.item_encoding import encode_item
from tests.support.manifests import build_text, operation

MANIFEST = (module_library() / "gogrid" / "manifest.toml").read_bytes()
MANIFEST_DIGEST = hashlib.sha256(MANIFEST).hexdigest()
MODULE_DIGEST = "ab" * 32
APPROVER = Ed25519PrivateKey.generate()
INTAKE = X25519PrivateKey.generate()
OPERATOR = Operator(uid=0, name="root")
EPOCH = 1_267_243_795
NOW = datetime.fromtimestamp(EPOCH, UTC)
# jclouds' GridIpAsyncClientTest: foo, bar, 1267243795.
SIGNATURE = "3f446f171455fbb5574aecff4997b273"


def pkcs8(key: Ed25519PrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())


def evaluator() -> CredentialEvaluator:
    keys = CredentialKeys(
        application="shop.example",
        approver_key=APPROVER.public_key().public_bytes_raw(),
        intake_key=pkcs8(INTAKE),
        ledger_key=pkcs8(Ed25519PrivateKey.generate()),
    )
    return CredentialEvaluator(keys, Sealer(b"\x01" * 32, purpose="credential"))


def approval(
    manifest: bytes = MANIFEST, approver: Ed25519PrivateKey = APPROVER, module: str = "gogrid"
) -> ApproveModule:
    item = ApproveModule(
        operator=OPERATOR,
        module=module,
        module_digest=MODULE_DIGEST,
        manifest_digest=hashlib.sha256(manifest).hexdigest(),
        approved_at=EPOCH,
        signature=b"",
    )
    return msgspec.structs.replace(item, signature=approver.sign(approval_statement(item)))


def put(
    secret: bytes = b"bar", *, credential: str = "grid", sealed_for: str = "grid", version: int = 1
) -> PutCredential:
    place = EnvelopePlace(
        application="shop.example", credential=sealed_for, module="gogrid", field="shared_secret"
    )
    envelope = encrypt_to_intake(Secret(secret), place, INTAKE.public_key().public_bytes_raw())
    return PutCredential(
        operator=OPERATOR,
        credential=credential,
        version=version,
        module="gogrid",
        manifest_digest=MANIFEST_DIGEST,
        owner="component",
        labels=("billing",),
        shareable={"api_key": "foo"},
        ceiling={},
        envelopes={"shared_secret": envelope},
    )


def use(**changes: object) -> Use:
    item = Use(
        peer=Peer(serial="0a", subsystem="component", node="n1.nodes.shop.example", agent="a1"),
        credential="grid",
        version=1,
        operation="sign",
        module="gogrid",
        module_digest=MODULE_DIGEST,
        manifest_digest=MANIFEST_DIGEST,
        formula="query",
        holes={"t": EPOCH},
        salt=b"\x00" * 16,
        rule="r1",
        policy_digest="p1",
    )
    return msgspec.structs.replace(item, **changes)


@pytest.fixture
def approved() -> CredentialEvaluator:
    made = evaluator()
    made.evaluate(approval(), MANIFEST, now=NOW)
    return made


@pytest.fixture
def sealed(approved: CredentialEvaluator) -> bytes:
    return approved.evaluate(put(), b"", now=NOW)


def test_the_published_vector_comes_out_right(approved: CredentialEvaluator, sealed: bytes) -> None:
    outputs = msgspec.msgpack.decode(approved.evaluate(use(), sealed, now=NOW))
    assert outputs == {"query.api_key": "foo", "query.sig": SIGNATURE}


def test_the_sealed_blob_does_not_show_the_secret(approved: CredentialEvaluator) -> None:
    blob = approved.evaluate(put(b"marked-secret-value"), b"", now=NOW)
    assert b"marked-secret" not in blob


def test_a_restarted_keyholder_is_primed_with_the_recorded_approval(sealed: bytes) -> None:
    again = evaluator()
    with pytest.raises(Forbidden) as caught:
        again.evaluate(use(), sealed, now=NOW)
    assert caught.value.rule == "approval-missing"
    again.prime(Document(approval=encode_item(approval()), manifest=MANIFEST), now=NOW)
    assert again.evaluate(use(), sealed, now=NOW)


@pytest.mark.parametrize(
    ("item", "manifest", "rule"),
    [
        (approval(approver=Ed25519PrivateKey.generate()), MANIFEST, "approval-signature"),
        (msgspec.structs.replace(approval(), approved_at=EPOCH + 1), MANIFEST, "approval-signature"),
        (msgspec.structs.replace(approval(), module_digest="cd" * 32), MANIFEST, "approval-signature"),
        (approval(), MANIFEST + b"\n", "approval-manifest"),
        (approval(module="aws-sigv4"), MANIFEST, "approval-manifest"),
    ],
    ids=["another-key", "another-time", "another-code", "another-manifest", "another-name"],
)
def test_an_approval_that_the_approver_did_not_give_is_refused(
    item: ApproveModule, manifest: bytes, rule: str
) -> None:
    made = evaluator()
    for attempt in (
        lambda: made.evaluate(item, manifest, now=NOW),
        lambda: made.prime(Document(approval=encode_item(item), manifest=manifest), now=NOW),
    ):
        with pytest.raises(Forbidden) as caught:
            attempt()
        assert caught.value.rule == rule


def test_even_the_approver_cannot_approve_a_formula_that_releases_a_secret() -> None:
    leaking = MANIFEST.replace(b"hex(md5(@api_key !shared_secret $t.epoch))", b"!shared_secret $t.epoch")
    assert leaking != MANIFEST
    with pytest.raises(Forbidden) as caught:
        evaluator().evaluate(approval(leaking), leaking, now=NOW)
    assert caught.value.rule.startswith("approval-")


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"credential": "other"}, "credential-differs"),
        ({"version": 2}, "credential-differs"),
        ({"module_digest": "cd" * 32}, "approval-module"),
        ({"manifest_digest": "cd" * 32}, "approval-missing"),
        ({"module": "aws-sigv4"}, "approval-missing"),
        ({"operation": "other"}, "bad-input"),
        ({"formula": "other"}, "bad-input"),
        ({"holes": {}}, "bad-input"),
        ({"holes": {"t": EPOCH, "more": "x"}}, "bad-input"),
        ({"holes": {"t": "soon"}}, "bad-input"),
        ({"holes": {"t": EPOCH + 301}}, "bad-input"),
        ({"holes": {"t": EPOCH - 301}}, "bad-input"),
    ],
)
def test_a_use_outside_approval_credential_types_or_clock_is_refused(
    approved: CredentialEvaluator, sealed: bytes, changes: dict[str, object], told: str
) -> None:
    with pytest.raises(OstiaryError) as caught:
        approved.evaluate(use(**changes), sealed, now=NOW)
    assert getattr(caught.value, "rule", caught.value.kind) == told


def test_another_version_of_the_module_does_not_use_a_secret_that_was_put_for_another_purpose(
    approved: CredentialEvaluator, sealed: bytes
) -> None:
    """Approval sees one manifest at a time: what a secret may be used as is sealed with it."""
    other = MANIFEST.replace(b'type = "digest_input"', b'type = "hmac_key"').replace(
        b"hex(md5(@api_key !shared_secret $t.epoch))", b"hex(hmac(md5, !shared_secret, $t.epoch))"
    )
    digest = hashlib.sha256(other).hexdigest()
    approved.evaluate(approval(other), other, now=NOW)
    with pytest.raises(Forbidden) as caught:
        approved.evaluate(use(manifest_digest=digest), sealed, now=NOW)
    assert caught.value.rule == "credential-fields"


def test_the_clock_is_the_keyholders_own(approved: CredentialEvaluator, sealed: bytes) -> None:
    later = datetime.fromtimestamp(EPOCH + 600, UTC)
    with pytest.raises(BadInput):
        approved.evaluate(use(), sealed, now=later)


@pytest.mark.parametrize(
    "member",
    ["application", "credential", "version", "module", "owner", "ceiling", "shareable", "field_types"],
)
def test_a_sealed_credential_whose_description_was_changed_does_not_open(
    approved: CredentialEvaluator, sealed: bytes, member: str
) -> None:
    blob = msgspec.msgpack.decode(sealed, type=SealedCredential)
    other = {"version": 9, "ceiling": {"host": ("*",)}, "shareable": {}, "field_types": {}}.get(
        member, "other"
    )
    changed = msgspec.structs.replace(
        blob, description=msgspec.structs.replace(blob.description, **{member: other})
    )
    with pytest.raises(Forbidden) as caught:
        approved.evaluate(use(), msgspec.msgpack.encode(changed), now=NOW)
    assert caught.value.rule == "credential-sealed"


def test_a_ceiling_is_part_of_what_the_secrets_are_sealed_to() -> None:
    sealer = Sealer(b"\x01" * 32, purpose="credential")
    description = Description(
        application="shop.example",
        credential="aws",
        version=1,
        module="aws-sigv4",
        owner="component",
        ceiling={"region": ("eu-*", "us-east-1")},
        shareable={},
        field_types={"secret_key": "hmac_key"},
    )
    blob = seal_credential(description, {"secret_key": b"k"}, sealer, nonce=b"\x00" * 12)
    assert open_credential(blob, sealer) == (description, {"secret_key": b"k"})
    wider = msgspec.structs.replace(description, ceiling={"region": ("eu-*", "us-east-1", "*")})
    forged = msgspec.structs.replace(msgspec.msgpack.decode(blob, type=SealedCredential), description=wider)
    with pytest.raises(Forbidden):
        open_credential(msgspec.msgpack.encode(forged), sealer)


@pytest.mark.parametrize("blob", [b"", b"\xc1", b"\x80"])
def test_what_is_no_sealed_credential_does_not_open(approved: CredentialEvaluator, blob: bytes) -> None:
    with pytest.raises(Forbidden):
        approved.evaluate(use(), blob, now=NOW)


def test_an_envelope_for_another_credential_does_not_open(approved: CredentialEvaluator) -> None:
    with pytest.raises(BadInput, match="shared_secret"):
        approved.evaluate(put(sealed_for="other"), b"", now=NOW)


def test_a_secret_of_the_wrong_shape_is_refused_without_a_word_of_it(approved: CredentialEvaluator) -> None:
    with pytest.raises(BadInput) as caught:
        approved.evaluate(put(b"with a space in it"), b"", now=NOW)
    assert "space in" not in str(caught.value)


MEMOISED = build_text(
    operation("op", "day = hmac(sha256, !key, $t.date)\nrelease sig = hex(hmac(sha256, day, 'req ' $word))")
).encode()


def test_two_blobs_of_one_version_never_share_derived_keys() -> None:
    """Two puts of one version may meet (docs/adr/0015), and the recorder chooses which blob it brings."""
    made = evaluator()
    made.evaluate(approval(MEMOISED, module="example"), MEMOISED, now=NOW)
    place = EnvelopePlace(application="shop.example", credential="grid", module="example", field="key")
    blobs, expected = [], []
    for secret in (b"a" * 32, b"b" * 32):
        envelope = encrypt_to_intake(Secret(secret), place, INTAKE.public_key().public_bytes_raw())
        item = msgspec.structs.replace(
            put(),
            module="example",
            manifest_digest=hashlib.sha256(MEMOISED).hexdigest(),
            shareable={"id": "me"},
            envelopes={"key": envelope},
        )
        blobs.append(made.evaluate(item, b"", now=NOW))
        day = hmac.digest(secret, NOW.strftime("%Y%m%d").encode(), "sha256")
        expected.append({"sig": hmac.digest(day, b"req word", "sha256").hex()})
    asked = use(
        module="example",
        operation="op",
        formula="op",
        manifest_digest=hashlib.sha256(MEMOISED).hexdigest(),
        holes={"t": EPOCH, "word": "word"},
    )
    for turn in (0, 1, 0, 1):
        assert msgspec.msgpack.decode(made.evaluate(asked, blobs[turn], now=NOW)) == expected[turn]
