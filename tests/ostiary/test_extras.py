"""A missing extra is named, with the command that installs it; pyproject.toml has what each must bring."""

from __future__ import annotations

import importlib.metadata
import sys
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from ostiary.errors import Misconfigured
from ostiary.extras import MODULES, Extra, require_extra
from tests.support.repository import ROOT

EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]


def test_what_is_installed_is_not_refused() -> None:
    for extra in MODULES:
        require_extra(extra, what="a test")


@pytest.mark.parametrize("extra", MODULES)
def test_any_part_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, extra: Extra) -> None:
    for module in MODULES[extra]:
        with monkeypatch.context() as without:
            without.setitem(sys.modules, module, None)  # as if it were not installed
            with pytest.raises(Misconfigured) as refused:
                require_extra(extra, what="this test")
        expected = f"this test needs the extra '{extra}' (not installed: {module}); install it:"
        assert refused.value.message == f"{expected} pip install 'ostiary[{extra}]'"


def test_every_extra_for_users_is_known_and_in_all() -> None:
    assert set(EXTRAS) == {"all", "dev", *MODULES}
    (all_of,) = (Requirement(each) for each in EXTRAS["all"])
    assert (all_of.name, all_of.extras) == ("ostiary", set(MODULES))


@pytest.mark.parametrize("extra", MODULES)
def test_what_is_asked_for_comes_with_that_extra(extra: Extra) -> None:
    """Each module is of a distribution that the extra names, or that one of those names for its own extra."""
    direct = [Requirement(each) for each in EXTRAS[extra]]
    brought = {canonicalize_name(each.name) for each in direct}
    for each in direct:
        for name in each.extras:
            needs = [Requirement(line) for line in importlib.metadata.requires(each.name) or ()]
            brought |= {
                canonicalize_name(need.name)
                for need in needs
                if need.marker is not None and need.marker.evaluate({"extra": name})
            }
    owners = importlib.metadata.packages_distributions()
    for module in MODULES[extra]:
        assert brought & {canonicalize_name(owner) for owner in owners[module]}, module
    distributions = {canonicalize_name(owner) for module in MODULES[extra] for owner in owners[module]}
    assert {canonicalize_name(each.name) for each in direct} <= distributions
