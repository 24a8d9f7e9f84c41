"""Ends of certificates: revoked by an operator, retired by themselves or their manager, void by another act.

Rules:
- An end is a step in the feed and an entry for the lists; it happens once, and nothing undoes it: there is no
  hold (certificateHold, RFC 5280 section 5.3.1).
- A compromised key takes with it all that was started with it, level by level, in the same turn.
- The whole lineage ends: all its certificates that are still valid. Only an operator can revoke a superseded
  one alone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from ca.certificates.crl import build_entry, parse_reason
from ca.items import ExpirePending, ReasonCode, Retire, Revoke, RevokeDescendant, VoidCertificate
from ca.recorder.decision import DONE, Decision, Terms
from ca.recorder.rules import forbidden
from ca.store.rows import CertificateRow, RevocationRow, Rows, names
from ostiary.certificate import parse_serial_hex
from ostiary.subsystems import CERTIFICATE_MANAGER
from ostiary.timestamp import EpochSeconds, moment_of
from ostiary.work.item import Item, Peer

ENROLL_NODE: Final = "enroll:node"


def revoke(rows: Rows, item: Revoke, terms: Terms) -> Decision:
    """An operator's word: the certificate, the rest of its lineage, and for keyCompromise its descendants."""
    row = _known(rows, item.serial)
    # A compromised key is no matter of one certificate: whoever had it could have renewed with it.
    if row.status == "superseded" and item.reason != "keyCompromise":
        end(rows, row, item.reason, terms.now_s)
        return DONE
    return _end_lineage(rows, row, item.reason, terms.now_s)


def retire(rows: Rows, item: Retire, terms: Terms) -> Decision:
    """End an agent's lineage, at its own word (of any generation) or that of its node's manager.

    1. The certificate is known and not revoked.
    2. The asker's certificate is of the same lineage, or its node's manager's.
    """
    # 1.
    row = _known(rows, item.serial)
    # 2. Any generation will do that is not revoked: an agent can only end what is its own.
    asker = rows.certificates.get(item.by.serial)
    itself = asker is not None and asker.status != "revoked" and asker.lineage == row.lineage
    if not itself and not (asker and is_manager(asker, item.by, row.node, terms.now_s)):
        raise forbidden(
            "retire-stranger",
            f"only its agent or the manager of '{row.node}' may end certificate {item.serial}",
        )
    return _end_lineage(rows, row, item.reason, terms.now_s)


def expire_pending(rows: Rows, item: ExpirePending, terms: Terms) -> Decision:
    """Revoke a pending certificate that was not proven in time."""
    row = rows.certificates.get(item.serial)
    if row is None or row.status != "pending" or (row.deadline is not None and row.deadline > terms.now_s):
        raise forbidden(
            "certificate-not-pending", f"certificate {item.serial} is not pending past its deadline"
        )
    end(rows, row, "cessationOfOperation", terms.now_s)
    return DONE


def is_manager(row: CertificateRow, peer: Peer, node: str, now_s: EpochSeconds) -> bool:
    """Whether this certificate, which the front saw a peer use, is that of a node's manager."""
    return (
        row.status == "active"
        and not row.stopped
        and row.is_live(now_s)
        and row.subsystem == CERTIFICATE_MANAGER
        and row.node == node
        and ENROLL_NODE in names(row.capabilities)
        # The row must be that of the peer that the front saw in TLS, not of another one whose serial it
        # names.
        and peer == Peer(serial=row.serial, subsystem=row.subsystem, node=row.node, agent=row.agent)
    )


def void(rows: Rows, row: CertificateRow, item: VoidCertificate, now_s: EpochSeconds) -> Item:
    """End a certificate because of another act; returns the item of its entry."""
    end(rows, row, item.reason, now_s)
    return item


def end(rows: Rows, row: CertificateRow, reason: ReasonCode, now_s: EpochSeconds) -> None:
    """Revoke one certificate that is not revoked yet."""
    entry = build_entry(
        serial_number=parse_serial_hex(row.serial),
        revoked_at=moment_of(now_s),
        reason=parse_reason(reason),
    )
    rows.replace_certificate(replace(row, status="revoked", deadline=None, revoked_at=now_s, reason=reason))
    rows.revocations.append(
        RevocationRow(
            serial=row.serial,
            shard=row.shard,
            revoked_at=now_s,
            reason=reason,
            not_after=row.not_after,
            crl_entry=entry,
        )
    )


def _known(rows: Rows, serial: str) -> CertificateRow:
    row = rows.certificates.get(serial)
    if row is None:
        raise forbidden("certificate-unknown", f"no certificate {serial[:40]!r}")
    if row.status == "revoked":
        raise forbidden("certificate-revoked", f"certificate {serial} is revoked already")
    return row


def _end_lineage(rows: Rows, row: CertificateRow, reason: ReasonCode, now_s: EpochSeconds) -> Decision:
    """End a certificate with all that is valid of its lineage; a compromised key takes what was started with
    it.
    """
    end(rows, row, reason, now_s)
    ended = _end_all(rows, rows.of_lineage(row.lineage), row.serial, reason)
    level = [row.lineage] if reason == "keyCompromise" else []
    # MAX_DEPTH (ostiary/capabilities.py) bounds the levels. A certificate that was ended is revoked, so no
    # level finds it again.
    while level:
        children = [child for lineage in level for child in rows.children_of(lineage)]
        ended += _end_all(rows, children, row.serial, reason)
        level = list(dict.fromkeys(child.lineage for child in children))
    return Decision(also=tuple(ended))


def _end_all(rows: Rows, found: list[CertificateRow], ancestor: str, reason: ReasonCode) -> list[Item]:
    for each in found:
        end(rows, each, reason, rows.now_s)
    return [RevokeDescendant(serial=each.serial, ancestor=ancestor, reason=reason) for each in found]
