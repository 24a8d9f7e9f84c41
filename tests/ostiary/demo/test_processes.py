"""The demonstration's processes: their input, their logs, their dialogue, and that none is left behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ostiary.demo import processes as module
from ostiary.demo.processes import Dialogue, Processes, free_port, ostiary_argv
from ostiary.errors import Misconfigured

pytestmark = pytest.mark.slow

HANG_S = 60.0
"""A guard: nothing here takes a second."""


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(tmp_path)
    yield made
    made.stop()


def python(program: str) -> list[str]:
    return [sys.executable, "-S", "-u", "-c", program]


def test_a_secret_arrives_by_standard_input_alone(processes: Processes, tmp_path: Path) -> None:
    seen = tmp_path / "seen"
    program = f"import sys; open({str(seen)!r}, 'w').write(sys.stdin.read())"
    process = processes.start("reader", python(program), secret_input=b"hunter2")
    process.wait(HANG_S)
    assert seen.read_text() == "hunter2"
    assert "hunter2" not in " ".join(map(str, process.args if isinstance(process.args, list) else []))


def test_output_goes_to_a_log_of_its_own(processes: Processes, tmp_path: Path) -> None:
    process = processes.start("teller", python("import sys; print('out'); print('err', file=sys.stderr)"))
    process.wait(HANG_S)
    assert sorted((tmp_path / "logs" / "teller.log").read_text().split()) == ["err", "out"]


def test_a_dialogue_is_one_line_each_way(processes: Processes) -> None:
    program = "import json, sys\nfor line in sys.stdin: print(json.dumps({'got': json.loads(line)['n']}))"
    dialogue = Dialogue(processes.start("echo", python(program), piped=True))
    assert [dialogue.ask(n=n) for n in range(3)] == [{"got": 0}, {"got": 1}, {"got": 2}]


def test_a_dialogue_with_a_process_that_ends_says_so(processes: Processes) -> None:
    dialogue = Dialogue(processes.start("gone", python("import sys; sys.stdin.readline()"), piped=True))
    with pytest.raises(Misconfigured, match="ended before it answered"):
        dialogue.ask(n=1)


def test_waiting_ends_with_the_process_that_failed(processes: Processes) -> None:
    processes.start("broken", python("raise SystemExit(7)"))
    with pytest.raises(Misconfigured, match=r"broken ended with 7: see '.*/logs/broken.log'"):
        processes.wait_until(lambda: False, "a miracle", within_s=HANG_S)


def test_waiting_ends_at_its_deadline(processes: Processes) -> None:
    with pytest.raises(Misconfigured, match="a miracle did not happen within 0 s"):
        processes.wait_until(lambda: False, "a miracle", within_s=0)


def test_none_is_left_behind_even_if_it_ignores_sigterm(
    processes: Processes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_STOP_S", 0.2)
    ready = tmp_path / "ready"
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"open({str(ready)!r}, 'w').close(); time.sleep({HANG_S})"
    )
    process = processes.start("stubborn", python(program))
    processes.wait_until(ready.exists, "the handler", within_s=HANG_S)
    processes.stop()
    assert process.returncode == -signal.SIGKILL
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_a_command_runs_with_json_and_its_failure_is_told(processes: Processes) -> None:
    assert "abilities" in processes.run("doctor")
    with pytest.raises(Misconfigured, match=r"`ostiary --home .* audit list` ended with 1"):
        processes.run("--home", "/nowhere", "audit", "list")


def test_ports_and_commands_are_this_machines() -> None:
    assert 1024 <= free_port() <= 65535
    assert ostiary_argv("doctor") == [sys.executable, "-m", "ostiary.cli", "doctor"]
