"""The operators' verbs over certificates: `certificate.list certificate.show certificate.revoke confirm`.

Reading is by index, at most MAX_ROWS at a time; changes are work items for the recorder.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy import Engine, Select, select

from ca.admin.token_verbs import SUBMIT_S
from ca.home import CAHome
from ca.items import ConfirmNode, ReasonCode, Revoke
from ca.store.certificate_columns import read_certificates
from ca.store.rows import CertificateRow
from ca.store.tables import CERTIFICATES, REVOCATIONS
from ca.store.tbs_packing import Templates
from ostiary.admin.server import Verb, arguments_of
from ostiary.certificate import assemble, parse_serial_hex
from ostiary.errors import BadInput, NotFound
from ostiary.names import NodeName, parse_node
from ostiary.recorder.client import RecorderClient
from ostiary.subsystems import CERTIFICATE_MANAGER, NODE_CONTROLLER
from ostiary.work.item import Operator

Json = dict[str, Any]
MAX_ROWS: Final = 500
_C: Final = CERTIFICATES.c


class _Confirm(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    node: str
    fingerprint: str


class _ListCertificates(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    subsystem: str = ""
    node: str = ""
    agent: str = ""
    status: Literal["", "pending", "active", "superseded", "revoked", "expired"] = ""
    limit: Annotated[int, msgspec.Meta(ge=1, le=MAX_ROWS)] = 100


class _Serial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    serial: str


class _RevokeCertificate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    serial: str
    reason: ReasonCode = "unspecified"


def certificate_verbs(home: CAHome, recorder: RecorderClient, engine: Engine) -> Mapping[str, Verb]:
    """The verbs by name; `engine` cannot write."""
    verbs = _CertificateVerbs(home, recorder, engine)
    return {
        "certificate.list": verbs.list_certificates,
        "certificate.show": verbs.show_certificate,
        "certificate.revoke": verbs.revoke_certificate,
        "confirm": verbs.confirm,
    }


class _CertificateVerbs:
    def __init__(self, home: CAHome, recorder: RecorderClient, engine: Engine) -> None:
        self._signature_algorithm_der = home.profile().signature_algorithm_der
        self._recorder = recorder
        self._engine = engine
        self._templates = Templates()

    def confirm(self, operator: Operator, arguments: Json) -> Json:
        """Have the pending certificate of a node with that fingerprint made active.

        The operator compared the fingerprint, not the serial number: so the certificate is found by it here,
        and the recorder compares it once more under its lock.
        """
        asked = arguments_of(arguments, _Confirm)
        node, fingerprint = parse_node(asked.node), parse_fingerprint(asked.fingerprint)
        for row in self._valid(node):
            der = self._der(row)
            is_pending = row.status == "pending" and row.bootstrap and der is not None
            if is_pending and hmac.compare_digest(hashlib.sha256(der or b"").digest(), fingerprint):
                item = ConfirmNode(operator=operator, node=node, serial=row.serial, fingerprint=fingerprint)
                done = self._recorder.submit(item, timeout_s=SUBMIT_S)
                return {"serial_number": row.serial, "status": "active", "entry": done.index}
        raise NotFound(f"'{node}' has no pending certificate with that fingerprint (SHA-256)")

    def _valid(self, node: NodeName) -> list[CertificateRow]:
        """The certificates of a node's manager and node controller that have not expired: few, and the only
        ones that wait for a confirmation.
        """
        bootstrapped = _C.subsystem.in_((CERTIFICATE_MANAGER, NODE_CONTROLLER))
        query = select(CERTIFICATES).where(_C.node == node, bootstrapped, _C.not_after >= int(time.time()))
        with self._engine.begin() as tx:
            return read_certificates(tx, query, self._templates)

    def list_certificates(self, _operator: Operator, arguments: Json) -> list[Json]:
        asked = arguments_of(arguments, _ListCertificates)
        now_s = int(time.time())
        query = _in_status(select(CERTIFICATES), asked.status, now_s).limit(asked.limit)
        for name in ("subsystem", "node", "agent"):
            if value := getattr(asked, name):
                query = query.where(_C[name] == value)
        with self._engine.begin() as tx:
            found = read_certificates(tx, query.order_by(_C.issued_at.desc()), self._templates)
        return [_certificate_view(row, now_s) for row in found]

    def show_certificate(self, _operator: Operator, arguments: Json) -> Json:
        row = self._certificate(arguments_of(arguments, _Serial).serial)
        der = self._der(row)
        return {
            **_certificate_view(row, int(time.time())),
            "capabilities": row.capabilities.split(),
            "granted": row.granted.split(),
            "endpoints": row.endpoints.split(),
            "lineage": row.lineage,
            "stopped": row.stopped,
            "parent": row.parent,
            "depth": row.depth,
            "shard": row.shard,
            "token": row.token_id,
            "activated_by": row.activated_by,
            "revoked_at": row.revoked_at,
            "reason": row.reason,
            "fingerprint": hashlib.sha256(der).hexdigest() if der else None,
            "certificate": _pem(der) if der else None,
        }

    def _certificate(self, serial: str) -> CertificateRow:
        parse_serial_hex(serial)
        with self._engine.begin() as tx:
            query = select(CERTIFICATES).where(CERTIFICATES.c.serial == serial)
            found = read_certificates(tx, query, self._templates)
        if not found:
            raise NotFound(f"no certificate {serial}")
        return found[0]

    def _der(self, row: CertificateRow) -> bytes | None:
        if row.signature is None:
            return None
        return assemble(row.tbs, self._signature_algorithm_der, row.signature)

    def revoke_certificate(self, operator: Operator, arguments: Json) -> Json:
        asked = arguments_of(arguments, _RevokeCertificate)
        parse_serial_hex(asked.serial)
        item = Revoke(operator=operator, serial=asked.serial, reason=asked.reason)
        done = self._recorder.submit(item, timeout_s=SUBMIT_S)
        return {
            "serial_number": asked.serial,
            "status": "revoked",
            "reason": asked.reason,
            "entry": done.index,
        }


def _in_status(query: Select[Any], status: str, now_s: int) -> Select[Any]:
    """Narrow a query to a state as operators see it: an expired certificate is nothing else, unless it was
    revoked.
    """
    # Each case leaves the question an index (ca/store/tables.py). There is none by status: most rows are
    # active.
    match status:
        case "":
            return query
        case "expired":
            return query.where(_C.not_after < now_s, _C.status != "revoked")
        case "revoked":
            newest = select(REVOCATIONS.c.serial).order_by(REVOCATIONS.c.n.desc()).limit(MAX_ROWS)
            return query.where(_C.serial.in_(newest))
        case "pending":
            return query.where(_C.deadline.is_not(None), _C.status == "pending", _C.not_after >= now_s)
        case _:
            return query.where(_C.status == status, _C.not_after >= now_s)


def parse_fingerprint(text: str) -> bytes:
    """Parse a SHA-256 in hex, with colons or without; BadInput names `fingerprint`."""
    # `openssl x509 -fingerprint -sha256` prints "sha256 Fingerprint=AB:CD:...": the whole line may be pasted.
    digits = text.rpartition("=")[2].replace(":", "").strip().lower()
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        raw = b""
    if len(raw) != hashlib.sha256().digest_size:
        raise BadInput(
            "fingerprint: not a SHA-256 in hex (64 digits, colons are allowed)", field="fingerprint"
        )
    return raw


def _certificate_view(row: CertificateRow, now_s: int) -> Json:
    # notAfter is the last second of validity (RFC 5280 section 4.1.2.5): expired after it, not at it.
    expired = now_s > row.not_after and row.status != "revoked"
    return {
        "serial_number": row.serial,
        "subsystem": row.subsystem,
        "node": row.node,
        "agent": row.agent,
        "status": "expired" if expired else row.status,
        "generation": row.generation,
        "not_before": row.not_before,
        "not_after": row.not_after,
    }


def _pem(der: bytes) -> str:
    return x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM).decode()
