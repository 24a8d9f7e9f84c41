"""Rules for every test: where CI is set, nothing is skipped for want of a tool."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

from tests.support.need import NEEDS

# Time per example says something about the machine's load, not about the code; speed is tested and measured
# elsewhere.
settings.register_profile("ostiary", deadline=None)
settings.load_profile("ostiary")


def _missing_tool(report: pytest.TestReport | pytest.CollectReport) -> str | None:
    """The reason of a skip for want of a tool, or None; `longrepr` of a skip is (path, line, "Skipped:
    reason").
    """
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
