"""Rules for every test: with CI set, no test may be skipped because a tool is missing; whole services are
tested first.

Test files run side by side (`make test`). What a machine has once a test either has for itself (a layout of
the request-key handler, a directory, a port) or names so that no other uses it (users, agents, cgroups).
"""

from __future__ import annotations

import os
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from tests.support.need import NEEDS

# Time per example measures the machine's load, not the code; `make bench` measures speed.
settings.register_profile("ostiary", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ostiary")


INTEGRATION = Path(__file__).parent / "integration"
# Files that share a service (tests/integration/conftest.py), by what they share: one process runs them.
SHARING = {
    f"tests/integration/{file}.py": service
    for service, files in {
        "shared_ca": ("test_broken_front", "test_ca_bad_input", "test_ca_service", "test_ca_strongswan"),
        "shared_credentials": (
            "test_boto",
            "test_broken_front_credentials",
            "test_credential_service_refusals",
        ),
    }.items()
    for file in files
}


class ByFileAndService(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out whole files, and those that share a service together."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return SHARING.get(file, file)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFileAndService | None:
    """In the order of collection; another `--dist` than the default is the caller's wish."""
    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return ByFileAndService(config, log)


def pytest_xdist_auto_num_workers() -> int:
    """Twice the cores: services start and stop, and what is killed comes back, most of it without a core."""
    return 2 * len(os.sched_getaffinity(0))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take longest, so that no process is left with one of them at the end."""
    items.sort(key=lambda item: INTEGRATION not in item.path.parents)


def _missing_tool(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """Return the reason of a skip for a missing tool, else None."""
    # `longrepr` of a skip is (path, line, "Skipped: reason").
    if not report.skipped or not isinstance(report.longrepr, tuple):
        return None
    reason = report.longrepr[2].removeprefix("Skipped: ")
    return reason if reason.startswith(NEEDS) else None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    reason = _missing_tool(report)
    if os.environ.get("CI") and reason is not None:
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped in CI: {reason}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    reason = _missing_tool(report)
    if os.environ.get("CI") and reason is not None:
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped in CI: {reason}"
    return report
