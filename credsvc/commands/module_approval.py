"""What an approver reads and signs. The digests are computed here, over the bytes that were shown; none is
taken from the service, which could name others than it shows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from credsvc.formula.approvable import check_approvable
from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.report import MachineReport, report_manifest
from credsvc.init import APPROVER_SERVICE
from credsvc.items import ApproveModule, approval_statement
from ostiary.edge.passphrase import unwrap
from ostiary.edge.passphrase_wrapping import wrapped_for
from ostiary.work.item import Operator


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposed:
    """A proposed version, read from its bytes."""

    manifest: Manifest
    report: MachineReport
    module_digest: str


def read_proposed(shown: Mapping[str, Any]) -> Proposed:
    """Read the answer of `module.show`; Forbidden where the machine's check refuses the manifest."""
    manifest = parse_manifest(shown["manifest"].encode())
    # The admin process refused such a manifest when it was proposed; an approver does not rely on that.
    check_approvable(manifest)
    return Proposed(
        manifest=manifest,
        report=report_manifest(manifest),
        module_digest=hashlib.sha256(shown["source"].encode()).hexdigest(),
    )


def sign_approval(
    proposed: Proposed, wrapped_key: bytes, passphrase: str, *, approved_at: int
) -> dict[str, Any]:
    """The arguments of `module.approve`; `approved_at` is seconds since the epoch. Unauthenticated for a
    wrong passphrase.
    """
    application = wrapped_for(wrapped_key)
    seed = unwrap(wrapped_key, passphrase, application=application, service=APPROVER_SERVICE)
    item = ApproveModule(
        # Nor is it signed who hands it in: the admin process fills this in from SO_PEERCRED.
        operator=Operator(uid=0, name=""),
        module=proposed.manifest.name,
        module_digest=proposed.module_digest,
        manifest_digest=proposed.manifest.digest,
        approved_at=approved_at,
        signature=b"",
    )
    return {
        "name": item.module,
        "module_digest": item.module_digest,
        "manifest_digest": item.manifest_digest,
        "approved_at": approved_at,
        "signature": Ed25519PrivateKey.from_private_bytes(seed).sign(approval_statement(item)),
    }
