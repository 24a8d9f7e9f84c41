"""What the front knows of the store: credentials in clear, active modules ready to run, the active policies
ready to judge.

Rules:
- Read only, and at most `FRESH_S` old. The recorder denies a use that was decided on something older
  (`stale-*`), and a refusal looks again first (`has_moved`): a front that knows too little can be slow, but
  not wrong.
- Modules and policies are parsed once per version: parsing 50 policies takes 0.7 ms, deciding by them 0.1 ms.
  Between versions a look costs two small queries a second.
- Secrets are not read (`credsvc.store.reader`).
- A store that can't be read is Busy.

Requests share a read (`credsvc.front.shared_reads`). While one is under way, others go on with what is known
for another `FRESH_S`: a read that takes long keeps nobody waiting. For one event loop; reads run on
`Offload`'s threads.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy import Engine

from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.types import Strength
from credsvc.front.shared_reads import SharedReads
from credsvc.policy.cedar import CredentialEntity, PolicySet
from credsvc.policy.judge import Judge
from credsvc.policy.schema import build_schema
from credsvc.sandbox.client.pool import LoadedModule, ModuleDigest
from credsvc.store.reader import (
    Actives,
    ActiveVersion,
    ClearCredential,
    read_active_versions,
    read_actives,
    read_credential,
    read_page,
    read_policy,
)
from ostiary.errors import BadInput, Misconfigured
from ostiary.front.offload import Offload
from ostiary.store.database import reading

FRESH_S: Final = 1.0
JUST_NOW_S: Final = 0.05
"""How often at most refusals read the store: a client that is always refused costs twenty reads a second, not
one each. Per credential: that another one was read just now says nothing of this one.
"""
MAX_KEPT: Final = 10_000
"""Credentials kept in memory; the one unused for longest goes first. Names that do not exist are kept too, so
that asking for them does not read the store each time; the bound is what keeps such a client from filling it.
"""
_log = logging.getLogger("ostiary.front")


@dataclass(frozen=True, slots=True, kw_only=True)
class ActiveModule:
    """A module's version that may be used: its manifest and the code that fills the holes."""

    manifest: Manifest
    code: LoadedModule

    @property
    def is_guessable(self) -> bool:
        """Whether a human's password stands behind what this module releases."""
        return any(field.strength is Strength.PASSWORD for field in self.manifest.confidential.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownCredential:
    """A credential without its secrets."""

    version: int
    entity: CredentialEntity
    shareable: Mapping[str, str]
    ceiling: Mapping[str, tuple[str, ...]]
    disabled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What one request is about, as it stood at one moment."""

    credential: KnownCredential
    module: ActiveModule
    judge: Judge

    @property
    def versions(self) -> tuple[object, ...]:
        """What a request was decided on: equal for two subjects that no decision tells apart."""
        credential, module = self.credential, self.module
        digests = (module.code.digest, module.manifest.digest, self.judge.digest)
        return (credential.entity.name, credential.version, credential.disabled, *digests)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Modules and policies; `actives` tells whether they changed."""

    actives: Actives
    modules: Mapping[str, ActiveModule]
    judge: Judge


@dataclass(slots=True, kw_only=True)
class _Kept:
    """A credential's row, None where there is none, and the subject that it is with what was `known` last."""

    read_at_s: float
    row: ClearCredential | None
    known: _Known | None = None
    subject: Subject | None = None


# The kind of read that gives modules and policies; the others are names of credentials, which have no space.
_MODULES_AND_POLICIES: Final = "modules and policies"


class Catalog:
    """See the module's docstring; `monotonic_s` is the clock that freshness is measured with."""

    def __init__(self, engine: Engine, *, offload: Offload, monotonic_s: Callable[[], float]) -> None:
        self._engine = engine
        self._offload = offload
        self._monotonic_s = monotonic_s
        self._reads = SharedReads()
        self._known: _Known | None = None
        self._known_at_s = 0.0
        # By name, in the order of use.
        self._kept: OrderedDict[str, _Kept] = OrderedDict()

    async def find(self, credential: str) -> Subject | None:
        """The credential with its active module; None where there is no such credential, or no
        module for it.
        """
        known = await self._current()
        kept = await self._credential(credential)
        # All of a subject is of one moment: this one, after the reads.
        known = self._known or known
        if kept.known is not known:
            kept.known, kept.subject = known, _subject_of(kept.row, known)
        return kept.subject

    async def judge(self) -> Judge:
        """The active policies."""
        return (await self._current()).judge

    async def page(self, *, after: str, limit: int) -> tuple[list[Subject], str | None]:
        """Usable credentials among the next `limit` in order of names, and the name to go on after (None:
        that was all).
        """
        rows = await self._offload.run(self._load_page, after, limit)
        known = await self._current()
        usable = [subject for row in rows if (subject := _subject_of(row, known)) is not None]
        return usable, rows[-1].name if len(rows) == limit else None

    async def has_moved(self, credential: str, seen: Subject | None) -> bool:
        """Look again, unless somebody just did, and say whether what is known now differs from what a request
        was decided on.
        """
        just_now_s = self._monotonic_s() - JUST_NOW_S
        kept = self._kept.get(credential)
        if self._known is None or self._known_at_s < just_now_s or (kept and kept.read_at_s < just_now_s):
            await self.look_again(credential)
        now = await self.find(credential)
        if now is None or seen is None:
            return now is not seen
        return now.versions != seen.versions

    async def look_again(self, credential: str) -> None:
        """Read modules, policies and the credential now: what is known is known to be old."""
        await self._reads.read_anew(_MODULES_AND_POLICIES, self._read_known)
        await self._reads.read_anew(credential, partial(self._read_kept, credential))

    async def _current(self) -> _Known:
        """What is known, after a read where that is old."""
        if self._known is not None:
            age_s = self._monotonic_s() - self._known_at_s
            is_being_read = self._reads.is_under_way(_MODULES_AND_POLICIES)
            if age_s <= FRESH_S or (age_s <= 2 * FRESH_S and is_being_read):
                return self._known
        return await self._reads.read(_MODULES_AND_POLICIES, self._read_known)

    async def _credential(self, name: str) -> _Kept:
        kept = self._kept.get(name)
        if kept is not None:
            age_s = self._monotonic_s() - kept.read_at_s
            if age_s <= FRESH_S or (age_s <= 2 * FRESH_S and self._reads.is_under_way(name)):
                self._kept.move_to_end(name)
                return kept
        return await self._reads.read(name, partial(self._read_kept, name))

    async def _read_kept(self, name: str) -> _Kept:
        # The time before the read: what was written while it went on counts as not seen.
        read_at_s = self._monotonic_s()
        row = await self._offload.run(self._load_credential, name)
        before, kept = self._kept.get(name), _Kept(read_at_s=read_at_s, row=row)
        if before is not None and before.row == row:
            kept.known, kept.subject = before.known, before.subject
        self._kept[name] = kept
        self._kept.move_to_end(name)
        if len(self._kept) > MAX_KEPT:
            self._kept.popitem(last=False)
        return kept

    async def _read_known(self) -> _Known:
        read_at_s = self._monotonic_s()
        known = self._known = await self._offload.run(self._load_known, self._known)
        self._known_at_s = read_at_s
        return known

    # On the threads of `_offload`: nothing below touches what the loop works with.

    def _load_credential(self, name: str) -> ClearCredential | None:
        with reading(self._engine) as tx:
            return read_credential(tx, name)

    def _load_page(self, after: str, limit: int) -> list[ClearCredential]:
        with reading(self._engine) as tx:
            return read_page(tx, after=after, limit=limit)

    def _load_known(self, known: _Known | None) -> _Known:
        """Return `known` itself where nothing has changed."""
        with reading(self._engine) as tx:
            actives = read_actives(tx)
            if known is not None and known.actives == actives:
                return known
            try:
                modules = _modules_of(read_active_versions(tx))
                judge = _judge_of(read_policy(tx, actives.policy_digest), actives.policy_digest, modules)
            except BadInput as exc:
                if known is None:
                    raise Misconfigured(
                        f"modules and policies in the store do not load: {exc.message}"
                    ) from exc
                # Activation checks this; should it fail all the same, the service goes on with what it had.
                _log.error("active-modules-do-not-load", extra={"problem": exc.message})
                return known
        return _Known(actives=actives, modules=modules, judge=judge)


def _modules_of(versions: list[ActiveVersion]) -> dict[str, ActiveModule]:
    modules = {}
    for version in versions:
        manifest = parse_manifest(version.manifest)
        code = LoadedModule(digest=ModuleDigest(version.module_digest), source=version.source.decode())
        modules[manifest.name] = ActiveModule(manifest=manifest, code=code)
    return modules


def _judge_of(policy: bytes, digest: str | None, modules: Mapping[str, ActiveModule]) -> Judge:
    schema = build_schema(module.manifest for module in modules.values())
    # Before the first policies everything is denied, so no recorded use ever names the empty digest.
    return Judge(PolicySet(policy.decode(), schema), digest=digest or "")


def _subject_of(row: ClearCredential | None, known: _Known) -> Subject | None:
    """None where there is no active module for the credential."""
    module = known.modules.get(row.module) if row is not None else None
    if row is None or module is None:
        return None
    credential = KnownCredential(
        version=row.version,
        entity=CredentialEntity(
            name=row.name,
            module=row.module,
            owner=row.owner,
            labels=tuple(row.labels),
            guessable=module.is_guessable,
        ),
        shareable=row.shareable,
        ceiling={name: tuple(patterns) for name, patterns in row.ceiling.items()},
        disabled=row.disabled,
    )
    return Subject(credential=credential, module=module, judge=known.judge)
