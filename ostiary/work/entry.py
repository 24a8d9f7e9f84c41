"""The ledger entry of a work item: a pure function of the item, the decision and the time.

Rules:
- The recorder and the keyholder both build the entry of an item they handle; the keyholder evaluates an item only if the entry that it
  built itself is a leaf of the batch. So an entry cannot say one thing while another is done.
- Canonical JSON (RFC 8785) that begins with the item's digest: `{"act":"<sha256>","at":<ms>,...`; no other member sorts before "act".
- Never a secret, never a MAC of one, never a hole: holes appear as a SHA-256 with a salt that is kept beside the entry, and
  deleting the salt redacts them.
- An entry is an authorization (`authorized`) or a refusal (`denied`, with rule and reason), not the proof of an answer.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from ostiary.ledger.canonical import canonical
from ostiary.work import ca_items as ca
from ostiary.work import credential_items as cred
from ostiary.work.item import Item, Operator, Peer, RawItem, item_digest, kind_of

if TYPE_CHECKING:
    from ostiary.ledger.canonical import JSON

Facts = dict[str, Any]


class Verdict(NamedTuple):
    """What the recorder decided; `rule` and `reason` are empty for `authorized`."""

    decision: Literal["authorized", "denied"]
    rule: str = ""
    reason: str = ""


AUTHORIZED = Verdict("authorized")


def build_entry(item: Item, raw: RawItem, verdict: Verdict, *, at_ms: int) -> bytes:
    """The canonical bytes of the entry for `item`, whose msgpack bytes are `raw`; `at_ms` is the recorder's clock (Unix, ms)."""
    entry: Facts = {
        "act": item_digest(raw).hex(),
        "at": at_ms,
        "decision": verdict.decision,
        "kind": kind_of(item),
        **_FACTS[type(item)](item),
    }
    if verdict.decision == "denied":
        entry["rule"] = verdict.rule
        entry["reason"] = verdict.reason
    return canonical(entry)


def salted_holes_digest(salt: bytes, holes: Mapping[str, cred.HoleValue]) -> str:
    """SHA-256 (hex) over salt || canonical JSON of the holes; what an entry says of them."""
    return hashlib.sha256(salt + canonical(cast("JSON", holes))).hexdigest()


def _peer(peer: Peer) -> Facts:
    return {"agent": peer.agent, "node": peer.node, "serial": peer.serial, "subsystem": peer.subsystem}


def _operator(operator: Operator) -> Facts:
    return {"operator": operator.name, "uid": operator.uid}


def _certificate(prepared: ca.Prepared) -> Facts:
    return {
        "agent": prepared.agent,
        "capabilities": list(prepared.capabilities),
        "endpoints": list(prepared.endpoints),
        "node": prepared.node,
        "not_after": prepared.not_after,
        "not_before": prepared.not_before,
        "serial": prepared.serial,
        "spki": prepared.spki_digest.hex(),
        "subsystem": prepared.subsystem,
        "tbs": hashlib.sha256(prepared.tbs).hexdigest(),
    }


def _redeem(item: ca.Redeem) -> Facts:
    return {"address": item.address, "certificate": _certificate(item.certificate), "token": item.token_id}


def _renew(item: ca.Renew) -> Facts:
    return {"certificate": _certificate(item.certificate), "previous": item.serial}


def _spawn(item: ca.Spawn) -> Facts:
    return {
        "asked": list(item.asked),
        "by": _peer(item.manager),
        "certificate": _certificate(item.certificate),
        "parent": item.spawner,
    }


def _mint(item: ca.MintToken) -> Facts:
    return {
        "again": item.again,
        "bootstrap": item.bootstrap,
        "by": _operator(item.operator),
        "expires_at": item.expires_at,
        "grants": {
            "address": item.address,
            "agent": item.agent,
            "capabilities": list(item.capabilities),
            "endpoints": list(item.endpoints),
            "lifetime_s": item.lifetime_s,
            "node": item.node,
            "spki": item.spki_digest.hex(),
            "subsystem": item.subsystem,
        },
        "token": item.token_id,
    }


def _responder(item: ca.ResponderCertificate) -> Facts:
    return {
        "not_after": item.not_after,
        "serial": item.serial,
        "spki": item.spki_digest.hex(),
        "tbs": hashlib.sha256(item.tbs).hexdigest(),
    }


def _crl(item: ca.PublishCRL) -> Facts:
    return {
        "number": item.number,
        "revoked": item.revoked,
        "shard": item.shard,
        "tbs": item.tbs_digest.hex(),
        "this_update": item.this_update,
    }


def _use(item: cred.Use) -> Facts:
    return {
        "by": _peer(item.peer),
        "credential": item.credential,
        "formula": item.formula,
        "holes": salted_holes_digest(item.salt, item.holes),
        "manifest": item.manifest_digest,
        "module": item.module,
        "module_digest": item.module_digest,
        "operation": item.operation,
        "policy": item.policy_digest,
        "rule": item.rule,
        "version": item.version,
    }


def _put(item: cred.PutCredential) -> Facts:
    return {
        "by": _operator(item.operator),
        "ceiling": {name: list(patterns) for name, patterns in item.ceiling.items()},
        "credential": item.credential,
        "fields": sorted(item.envelopes),
        "labels": list(item.labels),
        "manifest": item.manifest_digest,
        "module": item.module,
        "owner": item.owner,
        "shareable": dict(item.shareable),
        "version": item.version,
    }


def _module(item: cred.ProposeModule | cred.ApproveModule) -> Facts:
    return {
        "by": _operator(item.operator),
        "manifest": item.manifest_digest,
        "module": item.module,
        "module_digest": item.module_digest,
    }


def _approve(item: cred.ApproveModule) -> Facts:
    return {**_module(item), "approved_at": item.approved_at, "signature": item.signature.hex()}


_FACTS: dict[type[Item], Callable[[Any], Facts]] = {
    ca.Redeem: _redeem,
    ca.Renew: _renew,
    ca.Spawn: _spawn,
    ca.Activate: lambda i: {"means": i.means, "serial": i.serial},
    ca.Retire: lambda i: {"by": _peer(i.by), "revocation_reason": i.reason, "serial": i.serial},
    ca.Refuse: lambda i: {"attempt": i.act, "by": _peer(i.by), "target": i.target},
    ca.Refusals: lambda i: {"count": i.count, "refusal": i.reason, "source": i.source},
    ca.FrontCertificate: lambda i: {"certificate": _certificate(i.certificate)},
    ca.ResponderCertificate: _responder,
    ca.MintToken: _mint,
    ca.VoidToken: lambda i: {"by": _operator(i.operator), "token": i.token_id},
    ca.ConfirmNode: lambda i: {
        "by": _operator(i.operator),
        "fingerprint": i.fingerprint.hex(),
        "node": i.node,
        "serial": i.serial,
    },
    ca.Revoke: lambda i: {"by": _operator(i.operator), "revocation_reason": i.reason, "serial": i.serial},
    ca.Resign: lambda i: {"certificate": _certificate(i.certificate)},
    ca.ExpirePending: lambda i: {"serial": i.serial},
    ca.RevokeDescendant: lambda i: {
        "ancestor": i.ancestor,
        "revocation_reason": i.reason,
        "serial": i.serial,
    },
    ca.VoidCertificate: lambda i: {
        "because": i.because,
        "revocation_reason": i.reason,
        "serial": i.serial,
    },
    ca.PublishCRL: _crl,
    ca.Alarm: lambda i: {"alarm": i.what, "detail": i.detail},
    cred.Use: _use,
    cred.PutCredential: _put,
    cred.DisableCredential: lambda i: {"by": _operator(i.operator), "credential": i.credential},
    cred.DeleteCredential: lambda i: {"by": _operator(i.operator), "credential": i.credential},
    cred.ProposeModule: _module,
    cred.ApproveModule: _approve,
    cred.SetPolicy: lambda i: {"by": _operator(i.operator), "policy": i.policy_digest},
}


def recorded_kinds() -> frozenset[str]:
    """Every kind of entry that a ledger of ours can hold (the closed set of DESIGN's ledger)."""
    return frozenset(str(kind.__struct_config__.tag) for kind in _FACTS)


def approval_statement(item: cred.ApproveModule) -> bytes:
    """What the approver key signs: canonical JSON of module name, both digests and the time (epoch seconds)."""
    statement: Facts = {
        "approved_at": item.approved_at,
        "manifest": item.manifest_digest,
        "module": item.module,
        "module_digest": item.module_digest,
        "statement": "ostiary-module-approval-v1",
    }
    return canonical(statement)
