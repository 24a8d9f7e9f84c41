"""The CA's own certificates: its front's and its OCSP responder's.

Rules:
- They name this CA, on its own node, and carry no capability: they give a thief in the front nothing that the
  front does not have.
- The responder's certificate has no row: it names no revocation source and lives a day at most
  (ca/certificates/profile.py).
"""

from __future__ import annotations

from ca.items import FrontCertificate, ResponderCertificate
from ca.recorder.decision import SIGN, Decision, Terms
from ca.recorder.issuing import check_issuable, first_certificate, issue
from ca.recorder.rules import forbidden
from ca.store.rows import Rows
from ostiary.subsystems import CERTIFICATE_AUTHORITY


def front_certificate(rows: Rows, item: FrontCertificate, terms: Terms) -> Decision:
    """The front's TLS certificate."""
    prepared = item.certificate
    is_own = (prepared.subsystem, prepared.node) == (CERTIFICATE_AUTHORITY, terms.node)
    if not is_own or prepared.capabilities:
        raise forbidden(
            "front-identity", f"the front is {CERTIFICATE_AUTHORITY} on '{terms.node}', without capabilities"
        )
    # A row of its own, like any agent's: it is on the feed and in a shard, so it can be revoked.
    check_issuable(rows, prepared, now_s=terms.now_s, max_lifetime_s=terms.max_node_lifetime_s)
    issue(rows, first_certificate(prepared, now_s=terms.now_s, lifetime_s=terms.max_node_lifetime_s))
    return SIGN


def responder_certificate(rows: Rows, item: ResponderCertificate, terms: Terms) -> Decision:
    """The OCSP responder's certificate; the keyholder's guard checks whom it names."""
    if item.serial in rows.certificates:
        raise forbidden(
            "certificate-serial-taken", f"certificate {item.serial} exists already; prepare it again"
        )
    if not terms.now_s < item.not_after <= terms.now_s + terms.max_node_lifetime_s:
        raise forbidden(
            "responder-times", f"a responder's certificate may live at most {terms.max_node_lifetime_s} s"
        )
    return SIGN
