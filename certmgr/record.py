"""What the manager knows of one agent: immutable values, and the few things that follow from them alone.

Rules:
- A record is all there is: written to the vault at every change (`certmgr.record_form`), nothing beside it.
- Of a claim token only the digest is kept. Private keys are `Secret`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmgr.issued import Issued
from certmgr.keys import KeyPair, Names
from certmgr.lifecycle import Action, Life
from certmgr.scopes import CgroupScope, LeaseScope, ProcessKey, ProcessScope, Scope
from keyutils.payload import EpochSeconds, Payload, encode
from ostiary.capabilities import Capabilities
from ostiary.certificate import SerialHex

_VERSION: Final = 1


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
    """Who asked for an agent: the spawner's process and certificate. None for the two that bootstrap."""

    spawner: str
    spawner_serial: SerialHex
    process: ProcessKey


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Who claimed: only this user, from this scope, may come again."""

    uid: int
    scope: Scope


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One agent; `uid` and `named` are what its spawner fixed, `claim_by` is when an unclaimed agent ends."""

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
        """The number of the generation after the current one."""
        return self.current.number + 1 if self.current else 1


def performed(record: Record, actions: Iterable[Action]) -> Record:
    """Return the record after those actions that concern nothing but itself."""
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
    """Return the serial numbers of the generations that may still be good."""
    generations = (record.current, record.upcoming)
    return [each.issued.serial for each in generations if each and each.issued]


def payload_of(record: Record, root: x509.Certificate) -> bytes:
    """Return what an agent's key holds (`keyutils.payload`) for the generation that is delivered."""
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
