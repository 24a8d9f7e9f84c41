"""Metrics are summed over processes and threads, and Prometheus can read the text."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ostiary.edge.metrics import Metrics, MetricsFile


def samples(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    families = text_string_to_metric_families(metrics.exposition("ostiary_test").decode())
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
    }


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(stages=("policy", "sandbox"), counters=("denied",), processes=2)


def test_prometheus_reads_the_exposition(metrics: Metrics) -> None:
    metrics.observe("policy", 100_000)
    metrics.observe("policy", 20_000_000_000)
    metrics.count("denied", 3)
    found = samples(metrics)
    stage = ("stage", "policy")
    assert found["ostiary_test_denied_total", ()] == 3
    assert found["ostiary_test_stage_seconds_count", (stage,)] == 2
    assert found["ostiary_test_stage_seconds_sum", (stage,)] == pytest.approx(20.0001)
    assert found["ostiary_test_stage_seconds_bucket", (("le", "6.4e-05"), stage)] == 0
    assert found["ostiary_test_stage_seconds_bucket", (("le", "0.000128"), stage)] == 1
    assert found["ostiary_test_stage_seconds_bucket", (("le", "+Inf"), stage)] == 2
    assert found["ostiary_test_stage_seconds_count", (("stage", "sandbox"),)] == 0


def test_a_stage_times_its_block_also_when_it_fails(metrics: Metrics) -> None:
    with pytest.raises(ValueError, match="as wanted"), metrics.stage("sandbox"):
        time.sleep(0.01)
        raise ValueError("as wanted")
    assert samples(metrics)["ostiary_test_stage_seconds_sum", (("stage", "sandbox"),)] >= 0.01


def test_workers_are_added_up_and_a_restarted_one_goes_on(metrics: Metrics) -> None:
    for slot in (0, 1, 1):
        child = os.fork()
        if child == 0:
            metrics.attach(slot)
            metrics.count("denied")
            os._exit(0)
        os.waitpid(child, 0)
    assert metrics.value("denied") == 3


def test_threads_lose_no_count(metrics: Metrics) -> None:
    def work() -> None:
        for _ in range(5000):
            metrics.count("denied")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert metrics.value("denied") == 20000


def test_unknown_names_and_slots_are_mistakes(metrics: Metrics) -> None:
    with pytest.raises(KeyError):
        metrics.count("unheard-of")
    with pytest.raises(KeyError):
        metrics.stage("unheard-of")
    with pytest.raises(ValueError, match="slot 2 of 2"):
        metrics.attach(2)


def test_a_file_shows_the_numbers_once_a_second(metrics: Metrics, tmp_path: Path) -> None:
    shown = MetricsFile(tmp_path / "role.prom", metrics, prefix="role")
    metrics.count("denied")
    shown.show()
    metrics.count("denied")
    shown.show()
    assert "role_denied_total 1\n" in (tmp_path / "role.prom").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["role.prom"]
