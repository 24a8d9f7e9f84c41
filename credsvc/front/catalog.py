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

Thread-safe. One thread reads while the others go on with what is known.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.types import Strength
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """Modules and policies of one moment; `actives` tells whether they changed."""

    actives: Actives
    modules: Mapping[str, ActiveModule]
    judge: Judge
    read_at_s: float


class Catalog:
    """See the module's docstring; `monotonic_s` is the clock that freshness is measured with."""

    def __init__(self, engine: Engine, *, monotonic_s: Callable[[], float]) -> None:
        self._engine = engine
        self._monotonic_s = monotonic_s
        # Held by the one thread that reads modules and policies.
        self._reading = threading.Lock()
        # Replaced whole, by whoever holds _reading; read without a lock.
        self._known: _Known | None = None
        # name -> (read at, what was found); guarded by _kept_lock.
        self._kept: OrderedDict[str, tuple[float, KnownCredential | None]] = OrderedDict()
        self._kept_lock = threading.Lock()

    def find(self, credential: str) -> Subject | None:
        """The credential with its active module; None where there is no such credential, or no
        module for it.
        """
        known = self._current()
        found = self._credential(credential, known)
        module = known.modules.get(found.entity.module) if found is not None else None
        if found is None or module is None:
            return None
        return Subject(credential=found, module=module, judge=known.judge)

    @property
    def judge(self) -> Judge:
        """The active policies."""
        return self._current().judge

    def page(self, *, after: str, limit: int) -> tuple[list[Subject], str | None]:
        """Usable credentials among the next `limit` in order of names, and the name to go on after (None:
        that was all).
        """
        known = self._current()
        with reading(self._engine) as tx:
            rows = read_page(tx, after=after, limit=limit)
        found = [_known_credential(row, known) for row in rows]
        usable = [
            Subject(credential=each, module=known.modules[each.entity.module], judge=known.judge)
            for each in found
            if each.entity.module in known.modules
        ]
        return usable, found[-1].entity.name if len(found) == limit else None

    def has_moved(self, credential: str, seen: Subject | None) -> bool:
        """Look again, unless somebody just did, and say whether what is known now differs from what a request
        was decided on.
        """
        known, just_now_s = self._known, self._monotonic_s() - JUST_NOW_S
        with self._kept_lock:
            kept = self._kept.get(credential)
        if known is None or known.read_at_s < just_now_s or (kept is not None and kept[0] < just_now_s):
            self.look_again(credential)
        return _versions_of(self.find(credential)) != _versions_of(seen)

    def look_again(self, credential: str) -> None:
        """Read modules and policies now, and the credential at the next `find`: what is known is known to be
        old.
        """
        with self._kept_lock:
            self._kept.pop(credential, None)
        with self._reading:
            self._known = self._read(self._known)

    def _current(self) -> _Known:
        known = self._known
        if known is None:
            with self._reading:
                known = self._known = self._known or self._read(None)
        # Whoever does not get the lock goes on with what is known: no request waits for another one's read.
        elif self._is_old(known.read_at_s) and self._reading.acquire(blocking=False):
            try:
                known = self._known = self._read(known)
            finally:
                self._reading.release()
        return known

    def _is_old(self, read_at_s: float) -> bool:
        return self._monotonic_s() - read_at_s > FRESH_S

    def _credential(self, name: str, known: _Known) -> KnownCredential | None:
        with self._kept_lock:
            kept = self._kept.get(name)
            if kept is not None and not self._is_old(kept[0]):
                self._kept.move_to_end(name)
                return kept[1]
        # The time before the read: what was written while it went on counts as not seen.
        read_at_s = self._monotonic_s()
        with reading(self._engine) as tx:
            row = read_credential(tx, name)
        found = None if row is None else _known_credential(row, known)
        with self._kept_lock:
            self._kept[name] = (read_at_s, found)
            self._kept.move_to_end(name)
            if len(self._kept) > MAX_KEPT:
                self._kept.popitem(last=False)
        return found

    def _read(self, known: _Known | None) -> _Known:
        read_at_s = self._monotonic_s()
        with reading(self._engine) as tx:
            actives = read_actives(tx)
            if known is not None and known.actives == actives:
                return _Known(actives=actives, modules=known.modules, judge=known.judge, read_at_s=read_at_s)
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
                return _Known(
                    actives=known.actives, modules=known.modules, judge=known.judge, read_at_s=read_at_s
                )
        # What is known of credentials names modules: read those again with the new ones.
        with self._kept_lock:
            self._kept.clear()
        return _Known(actives=actives, modules=modules, judge=judge, read_at_s=read_at_s)


def _versions_of(subject: Subject | None) -> tuple[object, ...]:
    if subject is None:
        return ()
    credential, module = subject.credential, subject.module
    digests = (module.code.digest, module.manifest.digest, subject.judge.digest)
    return (credential.version, credential.disabled, *digests)


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


def _known_credential(row: ClearCredential, known: _Known) -> KnownCredential:
    module = known.modules.get(row.module)
    return KnownCredential(
        version=row.version,
        entity=CredentialEntity(
            name=row.name,
            module=row.module,
            owner=row.owner,
            labels=tuple(row.labels),
            guessable=module is not None and module.is_guessable,
        ),
        shareable=row.shareable,
        ceiling={name: tuple(patterns) for name, patterns in row.ceiling.items()},
        disabled=row.disabled,
    )
