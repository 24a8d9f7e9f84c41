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
# Files that one process runs, by what they share: a service (tests/integration/conftest.py), or
# /etc/request-key.d, where request-key(8) gives up when a file that it has listed is gone: no manager may
# leave while another test has a key made.
SHARING = {
    f"tests/{file}.py": shared
    for shared, files in {
        "shared_ca": """integration/test_broken_front integration/test_ca_bad_input
            integration/test_ca_service integration/test_ca_strongswan""",
        "shared_credentials": """integration/test_boto integration/test_broken_front_credentials
            integration/test_credential_service_refusals""",
        "request-key.d": """integration/test_demo integration/test_no_traces certmgr/commands/test_agent
            certmgr/commands/test_certmgr certmgr/test_api_upcall certmgr/test_app keyutils/test_agent_keys
            keyutils/test_install_leftovers keyutils/test_request_key_handler_refusals
            keyutils/test_request_key_handler_secrecy keyutils/test_request_key_handler_upcall
            keyutils/test_selftest ostiary/cli/test_doctor""",
    }.items()
    for file in files.split()
}


class ByFileAndShared(LoadFileScheduling):  # type: ignore[misc] # xdist has no types
    """Hands out whole files, and those that share something together."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return SHARING.get(file, file)


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByFileAndShared | None:
    """In the order of collection; another `--dist` than the default is the caller's wish."""
    if config.getoption("dist") != "load":
        return None
    config.option.loadscopereorder = False
    return ByFileAndShared(config, log)


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
