"""Why a CA refuses: every rule that a decision can name, in one table. Names stay: programs and auditors
read them.

`forbidden` is the only way to make one here, so that no rule is missing from the table (docs and tests read
it).
"""

from __future__ import annotations

from typing import Final

from ostiary.errors import Forbidden

RULES: Final = {
    "token-unknown": "there is no such token, or its secret is wrong",
    "token-expired": "the token has expired",
    "token-void": "an operator or a contest made the token worthless",
    "token-spent": "the token bought a certificate for another key",
    "token-contested": "a second key came for a token whose certificate is pending: both are void",
    "token-answer-lost": "the signature was lost and can't be made again: the certificate is too old for "
    "that",
    "token-other-address": "the token is bound to another address",
    "token-other-key": "the token is bound to another key",
    "token-other-subsystem": "the token is for another sub-system",
    "token-other-node": "the token is for another node",
    "token-other-agent": "the token is for another agent",
    "token-capabilities": "the certificate would carry capabilities that the token does not buy",
    "token-endpoints": "the certificate would carry endpoints that the token does not buy",
    "token-taken": "a token of that id exists",
    "token-not-open": "the token is spent or void already",
    "token-times": "the token's expiry or lifetime is out of bounds",
    "node-enrolled": "the node has a live certificate of that sub-system; an operator may begin again",
    "grant": "policy does not grant that capability to the sub-system",
    "reserved-subsystem": "the sub-system is the CA's own, or enrolls with an operator's token only",
    "certificate-lifetime": "the certificate would live longer than it may",
    "certificate-times": "the certificate does not begin now",
    "certificate-serial-taken": "a certificate with that serial number exists",
    "certificate-shard": "the CRL shard is full or not open",
    "certificate-unknown": "no certificate with that serial number",
    "certificate-not-active": "the certificate is pending, superseded, revoked or expired",
    "certificate-not-pending": "there is nothing to prove: the certificate is not pending",
    "certificate-unsigned": "the certificate has no signature yet, so it has no fingerprint either",
    "certificate-revoked": "the certificate is revoked already",
    "lineage-identity": "the renewal names an identity other than the certificate's",
    "lineage-capabilities": "the renewal would carry more than its lineage may",
    "lineage-endpoints": "the renewal would carry endpoints that its lineage does not have",
    "lineage-clone": "a renewal from a generation older than the active one: two hold keys of this lineage",
    "lineage-stopped": "the lineage was stopped after a clone was seen",
    "renewal-early": "half of the certificate's life is not over, and the renewal would change nothing",
    "renewal-pace": "the lineage was renewed too often",
    "proof-window": "an agent may confirm its own certificate only after the window has passed uncontested",
    "proof-kind": "this pending certificate cannot be proven in that way",
    "proof-late": "the deadline for the proof has passed",
    "fingerprint-differs": "the fingerprint is not that of the pending certificate",
    "fingerprint-node": "the certificate is of another node",
    "spawn-not-manager": "the caller is not a manager with enroll:node on that node",
    "spawn-other-node": "a manager may ask for agents of its own node only",
    "spawn-spawner": "the spawner's certificate is not live on that node",
    "spawn-not-granted": "the spawner has no capability to start that sub-system",
    "spawn-capabilities": "the certificate would carry more than request, grant and ceiling leave",
    "spawn-depth": "the chain of spawns is too deep",
    "spawn-agent-taken": "the agent has a live certificate already",
    "retire-stranger": "the caller is neither the agent itself nor its node's manager",
    "front-identity": "the front's certificate names something other than this CA on its node",
    "responder-times": "the responder's certificate would live too long",
}


def forbidden(rule: str, reason: str, *, field: str | None = None) -> Forbidden:
    """The error that refuses under a rule of the table; `reason` is for the caller and for the ledger."""
    if rule not in RULES:
        raise AssertionError(f"rule '{rule}' is not in the table")
    return Forbidden(reason, rule=rule, field=field)
