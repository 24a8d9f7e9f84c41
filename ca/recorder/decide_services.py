"""The CA's own certificates: its front's and its OCSP responder's.

Rules:
- They name this CA, on its own node, and carry no capability: a front that is broken into gets nothing from
  them that it hasn't.
- The responder's needs no row: it names no revocation source and lives a day at most
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
    check_issuable(rows, prepared, now_s=terms.now_s, max_lifetime_s=terms.max_node_lifetime_s)
    issue(rows, first_certificate(prepared, now_s=terms.now_s, lifetime_s=terms.max_node_lifetime_s))
    return SIGN


def responder_certificate(rows: Rows, item: ResponderCertificate, terms: Terms) -> Decision:
    """The OCSP responder's certificate; whom it names is the guard's to check."""
    if item.serial in rows.certificates:
        raise forbidden("certificate-serial-taken", f"a certificate {item.serial} exists; plan it again")
    if not terms.now_s < item.not_after <= terms.now_s + terms.max_node_lifetime_s:
        raise forbidden(
            "responder-times", f"a responder's certificate lives at most {terms.max_node_lifetime_s} s"
        )
    return SIGN
