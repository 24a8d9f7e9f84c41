"""A batch's view of the store: which version of a module may be used."""

from __future__ import annotations

from credsvc.store.rows import ModuleRow, ModuleState, Rows


def _version(digest: str, state: ModuleState, *, name: str = "gogrid") -> ModuleRow:
    return ModuleRow(name=name, module_digest=digest, manifest_digest="f", manifest=b"", state=state)


def _rows(*versions: ModuleRow) -> Rows:
    return Rows(modules={row.key: row for row in versions})


def test_versions_are_kept_apart_by_their_digests() -> None:
    assert len(_rows(_version("a", "retired"), _version("b", "active")).modules) == 2


def test_the_active_version_is_neither_the_proposed_nor_the_retired_one() -> None:
    active = _version("b", "active")
    rows = _rows(_version("a", "retired"), active, _version("c", "proposed"))
    assert rows.active_module("gogrid") is active


def test_another_modules_active_version_is_not_this_ones() -> None:
    rows = _rows(_version("a", "active", name="aws-sigv4"), _version("a", "proposed"))
    assert rows.active_module("gogrid") is None


def test_before_the_first_policy_there_is_none() -> None:
    assert Rows().policy_digest is None
