"""The manager's record of one agent: immutable values, and what follows from them alone.

Rules:
- The record is complete: each change writes it to the vault (`certmgr.record_form`), and nothing else
  describes the agent.
- It holds only the digest of a claim token. Private keys are `Secret`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmgr.issued import Issued
from certmgr.keys import KeyPair, Names
from certmgr.lifecycle import Action, Life, born
from certmgr.scopes import CgroupScope, LeaseScope, ProcessKey, ProcessScope, Scope
from keyutils.payload import EpochSeconds, Payload, encode
from ostiary.capabilities import Capabilities
from ostiary.certificate import SerialHex


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One key of a lineage, and its certificate once there is one; `number` counts from 1."""

    number: int
    keys: KeyPair
    issued: Issued | None = None

    @property
    def identity_pem(self) -> bytes:
        """Key and chain as one PEM, for TLS."""
        if self.issued is None:
            raise AssertionError("no certificate yet")
        return self.keys.private_key_pem.reveal() + b"".join(map(_pem, self.issued.chain))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spawn:
    """Who asked for an agent: the spawner, its certificate and its process."""

    spawner: str
    spawner_serial: SerialHex
    process: ProcessKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Who claimed: only this user, from this scope, may claim again."""

    uid: int
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One agent; its spawner fixed `uid` and `named`, and an unclaimed agent ends at `claim_by`.

    `spawn` and `claim_by` are None for the two bootstrap agents. `current` authenticates and is delivered;
    `upcoming` has a key, and a certificate once the authority has signed one.
    """

    names: Names
    life: Life
    capabilities: Capabilities | None
    endpoints: tuple[str, ...] | None
    claim_digest: bytes
    claim_by: datetime | None
    spawn: Spawn | None
    uid: int | None
    named: ProcessKey | None
    binding: Binding | None = None
    current: Generation | None = None
    upcoming: Generation | None = None

    @property
    def agent(self) -> str:
        return self.names.agent

    @property
    def next_number(self) -> int:
        """The number of the generation after the current one; a discarded generation's number is reused."""
        return self.current.number + 1 if self.current else 1


def introduced(names: Names, claim_digest: bytes, now: datetime) -> Record:
    """Return the record of a bootstrap agent, which nobody spawned: the authority says what it may."""
    return Record(
        names=names,
        life=born(now),
        capabilities=None,
        endpoints=None,
        claim_digest=claim_digest,
        claim_by=None,
        spawn=None,
        uid=None,
        named=None,
    )


def performed(record: Record, actions: Iterable[Action]) -> Record:
    """Return the record after those actions that change nothing but the record."""
    # PROMOTE precedes INSTALL in the table: what is delivered is always what authenticates.
    for action in actions:
        match action:
            case Action.PROMOTE:
                record = replace(record, current=record.upcoming, upcoming=None)
            case Action.DISCARD:
                record = replace(record, upcoming=None)
            case Action.WITHDRAW:
                record = replace(record, current=None, upcoming=None)
            case _:
                pass
    return record


def serials(record: Record) -> list[SerialHex]:
    """Return the serials of the generations that may still be valid."""
    generations = (record.current, record.upcoming)
    return [each.issued.serial for each in generations if each and each.issued]


def payload_of(record: Record, root: x509.Certificate) -> bytes:
    """Return the content of the agent's kernel key (`keyutils.payload`) for its current generation."""
    generation = record.current
    if generation is None or generation.issued is None:
        raise AssertionError("nothing to deliver")
    issued = generation.issued
    return encode(
        Payload(
            agent=record.agent,
            generation=generation.number,
            not_before=EpochSeconds(int(issued.not_before.timestamp())),
            not_after=EpochSeconds(int(issued.not_after.timestamp())),
            private_key_pem=generation.keys.private_key_pem.reveal(),
            chain_pem=tuple(map(_pem, issued.chain)),
            roots_pem=(_pem(root),),
        )
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.PEM)


def describe_scope(scope: Scope) -> dict[str, Any]:
    """Return a scope as `certmgr status` shows it."""
    match scope:
        case CgroupScope():
            return {"kind": "cgroup", "path": scope.path}
        case ProcessScope():
            return {"kind": "process", "pid": scope.root.pid}
        case LeaseScope():
            return {"kind": "lease", "anchor": scope.anchor.pid, "until": scope.until.isoformat()}
