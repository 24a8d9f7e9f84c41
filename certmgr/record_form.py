"""The stored form of a record, in a kernel key: msgpack with a version.

Rules:
- It contains private keys in the clear, so it goes into a kernel key and nowhere else.
- Every value read back is parsed by its own type again.
- Keys outlive a release. Members keep their stored names within a version; a change that an older manager
  cannot read takes a new version.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from certmgr.issued import Issued, unread
from certmgr.keys import KeyPair, Names
from certmgr.lifecycle import AgentState, Life, resumed
from certmgr.record import Binding, Generation, Record, Spawn
from certmgr.scopes import CgroupScope, LeaseScope, ProcessKey, ProcessScope, Scope
from ostiary.capabilities import parse_capabilities
from ostiary.certificate import SerialHex
from ostiary.errors import BadInput
from ostiary.identity import identity_of, parse_agent_id, parse_application, parse_node, parse_subsystem
from ostiary.secret import Secret

_VERSION: Final = 1
# Stored times are seconds since the epoch, as floats: they keep the microseconds of a datetime.


class _Generation(msgspec.Struct, frozen=True, kw_only=True):
    number: int
    key: bytes
    csr: bytes
    chain: list[bytes]


# `kind` says which members are there: cgroup path and number (its inode), process processes (root first),
# lease processes (the anchor) and until.
class _Scope(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    kind: str
    path: str | None = None
    inode: int | None = msgspec.field(name="number", default=None)
    processes: list[tuple[int, int]] = []
    until_s: float | None = msgspec.field(name="until", default=None)


class _Binding(msgspec.Struct, frozen=True, kw_only=True):
    uid: int
    scope: _Scope


# Windows follow from the certificates, `due` and `attempts` begin anew (`certmgr.lifecycle.resumed`).
class _Life(msgspec.Struct, frozen=True, kw_only=True):
    state: str
    installed: bool


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    application: str
    subsystem: str
    node: str
    agent: str
    life: _Life
    capabilities: list[str] | None
    endpoints: list[str] | None
    claim_digest: bytes
    claim_by_s: float | None = msgspec.field(name="claim_by")
    spawn: tuple[str, str, int, int] | None  # spawner, its serial, its pid and start time
    uid: int | None
    named: tuple[int, int] | None
    binding: _Binding | None
    current: _Generation | None
    upcoming: _Generation | None


def encode_record(record: Record) -> bytes:
    """Return the record as msgpack; it contains private keys."""
    names, spawn = record.names, record.spawn
    value = _Record(
        version=_VERSION,
        application=names.application,
        subsystem=names.subsystem,
        node=names.node,
        agent=names.agent,
        life=_Life(state=record.life.state.value, installed=record.life.installed),
        capabilities=None if record.capabilities is None else sorted(record.capabilities),
        endpoints=None if record.endpoints is None else list(record.endpoints),
        claim_digest=record.claim_digest,
        claim_by_s=record.claim_by.timestamp() if record.claim_by else None,
        spawn=(spawn.spawner, spawn.spawner_serial, *spawn.process) if spawn else None,
        uid=record.uid,
        named=record.named,
        binding=_Binding(uid=record.binding.uid, scope=_flat_scope(record.binding.scope))
        if record.binding
        else None,
        current=_flat_generation(record.current),
        upcoming=_flat_generation(record.upcoming),
    )
    return msgspec.msgpack.encode(value)


def decode_record(content: bytes, *, now: datetime, jitter: float) -> Record:
    """Read a record back; unfinished work is due at once. BadInput for content of another form or version."""
    try:
        value = msgspec.msgpack.decode(content, type=_Record)
        if value.version != _VERSION:
            raise BadInput(f"record version {value.version}, expected {_VERSION}")
        return _record(value, now, jitter)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise BadInput("malformed record") from exc


def _record(value: _Record, now: datetime, jitter: float) -> Record:
    current, upcoming = _generation(value.current), _generation(value.upcoming)
    spawn = value.spawn
    return Record(
        names=Names(
            application=parse_application(value.application),
            subsystem=parse_subsystem(value.subsystem),
            node=parse_node(value.node),
            agent=parse_agent_id(value.agent),
        ),
        life=resumed(
            Life(
                state=AgentState(value.life.state),
                due=now,
                installed=value.life.installed,
                used=_window(current),
                signed=_window(upcoming),
            ),
            now=now,
            jitter=jitter,
        ),
        capabilities=None if value.capabilities is None else parse_capabilities(value.capabilities),
        endpoints=None if value.endpoints is None else tuple(value.endpoints),
        claim_digest=value.claim_digest,
        claim_by=datetime.fromtimestamp(value.claim_by_s, UTC) if value.claim_by_s is not None else None,
        spawn=Spawn(
            spawner=spawn[0], spawner_serial=SerialHex(spawn[1]), process=ProcessKey(spawn[2], spawn[3])
        )
        if spawn
        else None,
        uid=value.uid,
        named=ProcessKey(*value.named) if value.named else None,
        binding=Binding(uid=value.binding.uid, scope=_scope(value.binding.scope)) if value.binding else None,
        current=current,
        upcoming=upcoming,
    )


def _window(generation: Generation | None) -> tuple[datetime, datetime] | None:
    if generation is None or generation.issued is None:
        return None
    return generation.issued.not_before, generation.issued.not_after


def _flat_generation(generation: Generation | None) -> _Generation | None:
    if generation is None:
        return None
    chain = generation.issued.chain if generation.issued else ()
    return _Generation(
        number=generation.number,
        key=generation.keys.private_key_pem.reveal(),
        csr=generation.keys.csr_der,
        chain=[each.public_bytes(Encoding.DER) for each in chain],
    )


def _generation(value: _Generation | None) -> Generation | None:
    if value is None:
        return None
    keys = KeyPair(private_key_pem=Secret(value.key), csr_der=value.csr)
    bare = Generation(number=value.number, keys=keys)
    if not value.chain:
        return bare
    # Not checked again: `check_issued` did, before this manager or an earlier one wrote it; the kernel keeps
    # other users from writing here.
    chain = tuple(map(x509.load_der_x509_certificate, value.chain))
    return replace(bare, issued=Issued(chain=unread(chain), identity=identity_of(chain[0])))


def _flat_scope(scope: Scope) -> _Scope:
    match scope:
        case CgroupScope():
            return _Scope(kind="cgroup", path=scope.path, inode=scope.inode)
        case ProcessScope():
            return _Scope(kind="process", processes=[scope.root, *sorted(scope.members)])
        case LeaseScope():
            return _Scope(kind="lease", processes=[scope.anchor], until_s=scope.until.timestamp())


def _scope(value: _Scope) -> Scope:
    processes = [ProcessKey(*each) for each in value.processes]
    match value:
        case _Scope(kind="cgroup", path=str(path), inode=int(inode)):
            return CgroupScope(path=path, inode=inode)
        case _Scope(kind="process") if processes:
            return ProcessScope(root=processes[0], members=frozenset(processes[1:]))
        case _Scope(kind="lease", until_s=int() | float() as until_s) if processes:
            return LeaseScope(anchor=processes[0], until=datetime.fromtimestamp(until_s, UTC))
        case _:
            raise BadInput("malformed scope in the record")
