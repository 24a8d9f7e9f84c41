"""What is active in the store, parsed: what an operator's act is checked against before it is recorded.

The checks are for a good error now. The recorder decides on the rows as they stand then, and the keyholder
checks whatever concerns a secret again.
"""

from __future__ import annotations

from sqlalchemy import Engine

from credsvc.formula.manifest import Manifest
from credsvc.formula.manifest_toml import parse_manifest
from credsvc.store.reader import read_active_versions, read_actives, read_policy
from ostiary.errors import BadInput


def active_manifests(engine: Engine) -> dict[str, Manifest]:
    """The active modules' manifests, by name."""
    with engine.begin() as tx:
        versions = read_active_versions(tx)
    return {manifest.name: manifest for manifest in (parse_manifest(each.manifest) for each in versions)}


def active_manifest(engine: Engine, module: str) -> Manifest:
    """One active module's manifest; BadInput names `module`."""
    manifest = active_manifests(engine).get(module)
    if manifest is None:
        raise BadInput(f"there is no active module '{module}': load and approve it first", field="module")
    return manifest


def active_policy(engine: Engine) -> str:
    """The text of the active policies; empty before the first."""
    with engine.begin() as tx:
        return read_policy(tx, read_actives(tx).policy_digest).decode()
