"""What a credentials service's keyholder does: take secrets in, and evaluate approved formulas over them.

Plan of a use (the numbers stand in `_evaluate_use`):
1. The manifest is one that the approver signed, for the module whose code filled the holes.
2. The sealed credential opens, is the one recorded (name, version, module), and its secrets are of the types
   that the manifest declares.
3. The holes fit the formula's types, the credential's ceiling and this process's own clock.
4. Evaluate; the output is the msgpack map of what the formula releases.

Rules:
- An operator's verbs reach here only as recorded items. Nothing is approved without the approver key, whoever
  asks.
- Nothing that another process says of a credential is believed: owner, ceiling and public fields come from
  inside the seal.
"""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from datetime import datetime

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from credsvc.evaluated_items import ApproveModule, PutCredential, Use, approval_statement
from credsvc.formula.approvable import check_approvable
from credsvc.formula.evaluate import Memo, evaluate
from credsvc.formula.holes import check_ceiling_names
from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.intake import EnvelopePlace, open_envelope
from credsvc.keyholder.keys import CredentialKeys, load_intake_key
from credsvc.keyholder.sealed_credential import Description, open_credential, seal_credential
from ostiary.errors import Forbidden
from ostiary.keyholder.protocol import Document
from ostiary.keyholder.seal import Sealer
from ostiary.work.item import Item, ItemDecoder

EVALUATED_KINDS: tuple[type[Item], ...] = (Use, PutCredential, ApproveModule)
MAX_MEMOS = 4096
"""Credentials whose derived keys are kept; the one unused for longest goes first. Each holds secrets, so they
live as long as this process and nowhere else.
"""


@dataclass(frozen=True, slots=True)
class _Approved:
    manifest: Manifest
    module_digest: str


class CredentialEvaluator:
    """The only code that sees a provider's secret."""

    decoder = ItemDecoder(EVALUATED_KINDS)

    def __init__(self, keys: CredentialKeys, sealer: Sealer) -> None:
        self._application = keys.application
        self._approver = Ed25519PublicKey.from_public_bytes(keys.approver_key)
        self._intake = load_intake_key(keys.intake_key)
        self._sealer = sealer
        # Owner of both: the keyholder's thread. By (module, manifest digest), and by the blob's SHA-256.
        # Two puts in the same moment get blobs of the same version (docs/adr/0015, "Costs"); they must
        # not share derived keys, and the recorder chooses which one it brings.
        self._approved: dict[tuple[str, str], _Approved] = {}
        self._memos: OrderedDict[bytes, Memo] = OrderedDict()

    def prime(self, document: Document, *, now: datetime) -> None:  # noqa: ARG002 - an approval has no end
        """Keep an approved module's manifest; the approver's signature is verified again."""
        item = self.decoder.decode(document.approval)
        if not isinstance(item, ApproveModule):
            raise Forbidden("the document has no approval", rule="approval-missing")
        self._keep_approved(item, document.manifest)

    def evaluate(self, item: Item, attachment: bytes, *, now: datetime) -> bytes:
        """Do what was recorded; raises OstiaryError, mostly Forbidden(rule) and BadInput."""
        match item:
            case Use():
                return self._evaluate_use(item, attachment, now)
            case PutCredential():
                return self._seal_put(item)
            case ApproveModule():
                self._keep_approved(item, attachment)
                return b""
            case _:
                raise Forbidden("items of this kind have nothing to evaluate", rule="kind-not-evaluated")

    def _evaluate_use(self, item: Use, blob: bytes, now: datetime) -> bytes:
        # 1. An approval is of manifest and code together: a formula means what its holes were written for.
        approved = self._require_approved(item.module, item.manifest_digest)
        if approved.module_digest != item.module_digest:
            raise Forbidden("the holes come from code that was not approved", rule="approval-module")
        # 2. The recorder chose the blob. Compared with the recorded act, it can choose no other credential,
        #    and no older version with a wider ceiling.
        description, secrets = open_credential(blob, self._sealer)
        recorded = (self._application, item.credential, item.version, item.module)
        if (
            description.application,
            description.credential,
            description.version,
            description.module,
        ) != recorded:
            raise Forbidden("the sealed credential is not the recorded one", rule="credential-differs")
        # A newer manifest of the same module might release what was put as a key for MACs only.
        if description.field_types != _field_types(approved.manifest):
            raise Forbidden(
                "the module now declares different secret fields: put the credential again",
                rule="credential-fields",
            )
        # 3. and 4. The front checked the holes by its clock; this one is asked for its own.
        released = evaluate(
            approved.manifest,
            item.formula,
            item.holes,
            operation=item.operation,
            shareable=description.shareable,
            confidential=secrets,
            now=now,
            ceiling=description.ceiling,
            memo=self._memo(hashlib.sha256(blob).digest()),
        )
        return msgspec.msgpack.encode(released.outputs)

    def _seal_put(self, item: PutCredential) -> bytes:
        manifest = self._require_approved(item.module, item.manifest_digest).manifest
        if item.envelopes.keys() != manifest.confidential.keys():
            wanted = ", ".join(sorted(manifest.confidential))
            raise Forbidden(f"the module's secret fields are {wanted}", rule="credential-fields")
        manifest.check_shareable(item.shareable)
        check_ceiling_names(manifest, item.ceiling)
        secrets = {name: self._take_in(item, manifest, name) for name in item.envelopes}
        description = Description(
            application=self._application,
            credential=item.credential,
            version=item.version,
            module=item.module,
            owner=item.owner,
            ceiling=item.ceiling,
            shareable=item.shareable,
            field_types=_field_types(manifest),
        )
        return seal_credential(description, secrets, self._sealer, nonce=os.urandom(12))

    def _take_in(self, item: PutCredential, manifest: Manifest, field: str) -> bytes:
        place = EnvelopePlace(
            application=self._application, credential=item.credential, module=item.module, field=field
        )
        secret = open_envelope(item.envelopes[field], place, self._intake).reveal()
        manifest.check_secret(field, secret)
        return secret

    def _keep_approved(self, item: ApproveModule, manifest_bytes: bytes) -> None:
        # The signature is over digests (`approval_statement`), so the bytes are first shown to be theirs.
        if hashlib.sha256(manifest_bytes).hexdigest() != item.manifest_digest:
            raise Forbidden("the manifest is not the one approved", rule="approval-manifest")
        try:
            self._approver.verify(item.signature, approval_statement(item))
        except InvalidSignature as exc:
            raise Forbidden(
                "the approval is not signed by the approver key", rule="approval-signature"
            ) from exc
        manifest = parse_manifest(manifest_bytes)
        if manifest.name != item.module:
            raise Forbidden("the manifest names another module", rule="approval-manifest")
        # Last, and whoever signed: the machine refuses formulas that could release a secret.
        check_approvable(manifest)
        self._approved[item.module, item.manifest_digest] = _Approved(manifest, item.module_digest)

    def _require_approved(self, module: str, manifest_digest: str) -> _Approved:
        approved = self._approved.get((module, manifest_digest))
        if approved is None:
            raise Forbidden("this module was not approved", rule="approval-missing")
        return approved

    def _memo(self, blob_digest: bytes) -> Memo:
        memo = self._memos.setdefault(blob_digest, Memo())
        self._memos.move_to_end(blob_digest)
        if len(self._memos) > MAX_MEMOS:
            self._memos.popitem(last=False)
        return memo


def _field_types(manifest: Manifest) -> dict[str, str]:
    return {name: field.type.value for name, field in manifest.confidential.items()}
