"""Rules for every test: with CI set, no test may be skipped because a tool is missing."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import HealthCheck, settings

from tests.support.need import NEEDS

# Time per example measures the machine's load, not the code; `make bench` measures speed.
settings.register_profile("ostiary", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ostiary")


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
