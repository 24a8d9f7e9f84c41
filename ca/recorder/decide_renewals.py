"""Lineages: renewal, and the proofs by which a pending certificate becomes active.

    pending --dial-back, operator, self--> active      (a bootstrap certificate)
    pending --used--> active, the one before superseded      (a renewed certificate)
    pending --replaced, contested, late--> revoked

Rules:
- Only the active generation renews. While its successor is pending it may renew again, because an answer was
  lost; the successor that nobody used is void then. So a lineage has at most one pending certificate.
- Renewals keep a pace. The first one comes when half of the certificate's life is over, at once where it
  changes what the lineage carries (a bootstrap certificate that was proven, a policy that changed), and again
  while its successor is pending; in all that, RENEWALS times in RENEWALS_S. Each costs a certificate, a
  revocation and entries for good.
- A renewal by a superseded generation means that two parties hold keys of one lineage: the lineage stops, and
  an alarm is written. (RFC 9700 section 4.14.2 detects stolen refresh tokens in the same way.)
- A lineage keeps its identity; it may carry what was granted to it, less what policy has taken back since.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import replace
from typing import Final

from ca.items import Activate, ConfirmNode, Prepared, Renew, VoidCertificate
from ca.recorder.decide_revocations import void
from ca.recorder.decide_tokens import PROOF_WINDOW_S
from ca.recorder.decision import DONE, SIGN, Decision, Terms, denied
from ca.recorder.issuing import again, check_issuable, is_retry, issue, next_certificate
from ca.recorder.rules import forbidden
from ca.store.rows import CertificateRow, Rows, names
from ostiary.certificate import assemble
from ostiary.timestamp import EpochSeconds
from ostiary.work.item import Item
from ostiary.work.reports import Alarm

RENEWALS: Final = 10
"""Of one lineage in RENEWALS_S. A manager whose answers are lost repeats one request, which is another
certificate once in RETRY_S (ca/recorder/issuing.py): six in an hour.
"""
RENEWALS_S: Final = 3600
"""Or the lifetime, where that is shorter: a certificate of ten minutes is renewed ten times an hour."""


def renew(rows: Rows, item: Renew, terms: Terms) -> Decision:
    """Replace a certificate by its next generation.

    1. The certificate that asks is its lineage's active generation; an older one means a clone.
    2. The same key as that of the waiting successor means that an answer was lost: the same successor again.
    3. The new certificate is within the lineage.
    4. It can be issued.
    5. It comes neither too early nor too often.
    6. A successor that nobody used is void; the new one waits for its first use.
    """
    # 1.
    row = rows.certificates.get(item.serial)
    if row is None:
        raise forbidden("certificate-unknown", f"no certificate {item.serial[:40]!r}")
    if row.stopped:
        raise forbidden(
            "lineage-stopped", f"the lineage of certificate {row.serial} was stopped; ask the operator"
        )
    # A successor supersedes only when its key was used. So who asks with the older key either lost a key that
    # somebody else uses, or is that somebody.
    if row.status == "superseded":
        return _clone(rows, row)
    if row.status != "active" or not row.is_live(terms.now_s):
        raise forbidden("certificate-not-active", f"certificate {row.serial} is {_state(row, terms.now_s)}")
    # 2.
    successor = next((each for each in rows.of_lineage(row.lineage) if each.status == "pending"), None)
    if successor is not None and is_retry(successor, item.certificate.spki_digest, terms.now_s):
        return again(successor, terms.now_s)
    # 3. and 4.
    _check_same(row, item.certificate, terms)
    check_issuable(rows, item.certificate, now_s=terms.now_s, max_lifetime_s=row.lifetime_s)
    # 5.
    if successor is None:
        _check_not_early(row, item.certificate, terms.now_s)
    _check_pace(rows, row, terms.now_s)
    # 6. Generations are numbered through: a void one keeps its number.
    also: tuple[Item, ...] = ()
    if successor is not None:
        replaced = VoidCertificate(serial=successor.serial, because="replaced", reason="superseded")
        also = (void(rows, successor, replaced, terms.now_s),)
    generation = (successor or row).generation + 1
    issue(rows, next_certificate(row, item.certificate, generation=generation, now_s=terms.now_s))
    return replace(SIGN, also=also)


def _clone(rows: Rows, row: CertificateRow) -> Decision:
    # Nobody can tell the agent from the thief, so neither renews. Both certificates end with their own time,
    # or when an operator revokes them.
    for each in rows.of_lineage(row.lineage):
        if not each.stopped:
            rows.replace_certificate(replace(each, stopped=True))
    alarm = Alarm(
        what="lineage-clone",
        detail=f"superseded certificate {row.serial} of {row.subsystem} {row.agent} on {row.node} "
        "asked for a renewal",
    )
    reason = (
        f"certificate {row.serial} was superseded and its successor used: "
        "two parties hold keys of this lineage"
    )
    return denied("lineage-clone", reason, alarm)


def _check_same(row: CertificateRow, prepared: Prepared, terms: Terms) -> None:
    identity = (prepared.subsystem, prepared.node, prepared.agent)
    if identity != (row.subsystem, row.node, row.agent):
        raise forbidden("lineage-identity", f"a renewal of {row.serial} keeps its sub-system, node and agent")
    may = names(row.granted) & terms.grant(row.subsystem)
    if not set(prepared.capabilities) <= may:
        raise forbidden("lineage-capabilities", f"the lineage may carry {sorted(may)}", field="capabilities")
    if not set(prepared.endpoints) <= names(row.endpoints):
        raise forbidden("lineage-endpoints", f"the lineage has '{row.endpoints}'", field="endpoints")


def _check_not_early(row: CertificateRow, prepared: Prepared, now_s: EpochSeconds) -> None:
    """Refuse a renewal that changes nothing before half of the certificate's life is over."""
    if row.bootstrap or set(prepared.capabilities) != names(row.capabilities):
        return
    # By the certificate's own dates, of which the first is backdated: managers reckon by the same ones, and
    # come when three fifths are over (RENEW_AT, RENEW_SPREAD in certmgr/lifecycle.py).
    half_s = (row.not_before + row.not_after) // 2
    if now_s < half_s:
        raise forbidden(
            "renewal-early",
            f"certificate {row.serial} can be renewed in {half_s - now_s} s, when half of its life is over",
        )


def _check_pace(rows: Rows, row: CertificateRow, now_s: EpochSeconds) -> None:
    """Refuse one renewal more than RENEWALS of a lineage; the rows count them, the void ones too."""
    span_s = min(RENEWALS_S, row.lifetime_s)
    recent = sorted(
        each.issued_at
        for each in rows.generations_of(row.lineage)
        if each.generation > 1 and each.issued_at > now_s - span_s
    )
    if len(recent) >= RENEWALS:
        raise forbidden(
            "renewal-pace",
            f"the lineage of certificate {row.serial} was renewed {len(recent)} times in {span_s} s; "
            f"it can be renewed again in {recent[-RENEWALS] + span_s - now_s} s",
        )


def activate(rows: Rows, item: Activate, terms: Terms) -> Decision:
    """Make a proven certificate active; a renewed one's predecessor is superseded.

    1. It is pending, and in time.
    2. The proof is of the right kind: use for a renewal, the others for a bootstrap certificate.
    3. The agent's own word counts only where the CA has no address to dial, and after the window in which
       somebody else could have come with the same token.
    """
    # 1.
    row = _pending(rows, item.serial, terms.now_s)
    # 2.
    if row.bootstrap != (item.means != "used"):
        raise forbidden("proof-kind", f"certificate {row.serial} cannot be proven by '{item.means}'")
    # 3.
    if item.means == "self":
        if row.address is not None:
            raise forbidden("proof-kind", f"certificate {row.serial} has an address: the CA proves it there")
        if terms.now_s < row.issued_at + PROOF_WINDOW_S:
            left_s = row.issued_at + PROOF_WINDOW_S - terms.now_s
            raise forbidden(
                "proof-window",
                f"the agent can confirm its own certificate in {left_s} s, unless it is contested by then",
            )
    return _activated(rows, row, item.means, terms.now_s)


def confirm_node(rows: Rows, item: ConfirmNode, terms: Terms) -> Decision:
    """Make a bootstrap certificate active whose fingerprint (SHA-256 of its DER) an operator has compared."""
    row = _pending(rows, item.serial, terms.now_s)
    if not row.bootstrap:
        raise forbidden("proof-kind", f"certificate {row.serial} is a renewal: it is proven by its use")
    if row.node != item.node:
        raise forbidden("fingerprint-node", f"certificate {row.serial} is not of node '{item.node}'")
    # The fingerprint is over the whole certificate, so without a signature there is none yet.
    if row.signature is None:
        raise forbidden("certificate-unsigned", f"certificate {row.serial} has no signature yet; try again")
    certificate = assemble(row.tbs, terms.signature_algorithm_der, row.signature)
    if not hmac.compare_digest(hashlib.sha256(certificate).digest(), item.fingerprint):
        raise forbidden("fingerprint-differs", f"certificate {row.serial} has another fingerprint")
    return _activated(rows, row, "operator", terms.now_s)


def _activated(rows: Rows, row: CertificateRow, means: str, now_s: EpochSeconds) -> Decision:
    # Superseded, not revoked: connections that are open end with the old key's own time (docs/issuance.md).
    for each in rows.of_lineage(row.lineage):
        if each.status == "active":
            rows.replace_certificate(replace(each, status="superseded"))
    rows.replace_certificate(
        replace(row, status="active", deadline=None, activated_at=now_s, activated_by=means)
    )
    return DONE


def _pending(rows: Rows, serial: str, now_s: EpochSeconds) -> CertificateRow:
    row = rows.certificates.get(serial)
    if row is None:
        raise forbidden("certificate-unknown", f"no certificate {serial[:40]!r}")
    if row.status != "pending":
        raise forbidden(
            "certificate-not-pending", f"certificate {serial} is {_state(row, now_s)}, not pending"
        )
    if row.stopped:
        raise forbidden(
            "lineage-stopped", f"the lineage of certificate {serial} was stopped; ask the operator"
        )
    if row.deadline is None or now_s >= row.deadline:
        raise forbidden("proof-late", f"certificate {serial} was not proven in time; make a new token")
    return row


def _state(row: CertificateRow, now_s: EpochSeconds) -> str:
    return "expired" if now_s > row.not_after and row.status != "revoked" else row.status
