"""What killed runs left never prevents an install, and what other checkouts use is never replaced."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from keyutils import install, request_key_handler
from keyutils.keyring import KeySerial
from keyutils.layout import Layout, private_layout, waste
from tests.support.repository import ROOT
from tests.support.upcall import LAYOUT, Managers, answer_for, key_answer, request
from tests.support.waiting import PATIENCE_S

SOCKET = Path("/run/ostiary/certmgr.sock")
THIS_WIRE = f"WIRE_VERSION = {request_key_handler.WIRE_VERSION}"


def test_registration_of_a_dead_process_is_dropped(layout: Layout) -> None:
    install.install("live", SOCKET, uid=0, is_lasting=False, layout=layout)
    child = subprocess.Popen(["true"])
    child.wait()
    (layout.passing / "dead").write_text(f"{SOCKET}\n0\n{child.pid}\n1\n")
    (layout.passing / "reused").write_text(f"{SOCKET}\n0\n{os.getpid()}\n1\n")
    status = install.install("other", SOCKET, uid=0, is_lasting=False, layout=layout)
    assert status.managers == ("live", "other")


def put_by_another_release(layout: Layout, wire: str) -> str:
    """Replace the installed module by one of another release; return its text."""
    other = layout.module.read_text().replace(THIS_WIRE, wire) + "# another release\n"
    layout.module.write_text(other)
    return other


def put_by_a_dead_process(layout: Layout) -> None:
    """Make the one registration that of a process that is gone."""
    (only_one,) = layout.passing.iterdir()
    only_one.write_text(f"{SOCKET}\n0\n{os.getpid()}\n1\n")


@pytest.mark.parametrize("wire", [THIS_WIRE, "WIRE_VERSION = 9", "nothing"])
def test_handler_left_by_a_killed_run_is_replaced(layout: Layout, wire: str) -> None:
    install.install("killed", SOCKET, uid=0, is_lasting=False, layout=layout)
    put_by_another_release(layout, wire)
    put_by_a_dead_process(layout)
    assert install.install("next", SOCKET, uid=0, is_lasting=False, layout=layout).is_usable
    assert layout.module.read_bytes() == Path(request_key_handler.__file__).read_bytes()


def test_live_managers_handler_of_the_same_wire_serves_both(layout: Layout) -> None:
    install.install("live", SOCKET, uid=0, is_lasting=False, layout=layout)
    other = put_by_another_release(layout, THIS_WIRE)
    status = install.install("second", SOCKET, uid=0, is_lasting=False, layout=layout)
    assert status.is_usable
    assert layout.module.read_text() == other


def test_live_managers_handler_of_another_wire_is_not_replaced(layout: Layout) -> None:
    install.install("live", SOCKET, uid=0, is_lasting=False, layout=layout)
    other = put_by_another_release(layout, "WIRE_VERSION = 9")
    with pytest.raises(install.InstallRefused, match="wire version 9"):
        install.install("second", SOCKET, uid=0, is_lasting=False, layout=layout)
    assert layout.module.read_text() == other
    assert install.probe(layout).managers == ("live",)


def test_restarted_manager_installs_its_own_release(layout: Layout) -> None:
    install.install("live", SOCKET, uid=0, is_lasting=False, layout=layout)
    put_by_another_release(layout, "WIRE_VERSION = 9")
    assert install.install("live", SOCKET, uid=0, is_lasting=False, layout=layout).is_usable


def test_half_a_handler_is_made_whole_although_others_rely_on_it(layout: Layout) -> None:
    install.install("live", SOCKET, uid=0, is_lasting=False, layout=layout)
    layout.module.unlink()
    assert install.install("second", SOCKET, uid=0, is_lasting=False, layout=layout).is_usable


def test_conf_line_that_runs_a_handler_elsewhere_is_put_right(layout: Layout) -> None:
    layout.conf.write_text(
        "# Made by ostiary (keyutils.install)\ncreate user ostiary:* * /gone/request-key %k\n"
    )
    assert install.install("main", SOCKET, uid=0, is_lasting=False, layout=layout).is_usable


def test_files_of_a_writer_that_was_killed_are_swept(layout: Layout, tmp_path: Path) -> None:
    install.install("main", SOCKET, uid=0, is_lasting=False, layout=layout)
    for directory in (layout.conf.parent, layout.handler.parent, layout.lasting, layout.passing):
        (directory / ".ostiary-x81k_").write_text("half")
    install.uninstall("main", is_lasting=False, layout=layout)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []


def test_only_dead_owners_private_layouts_are_swept(layout: Layout) -> None:
    mine = private_layout(layout)
    install.install("mine", SOCKET, uid=0, is_lasting=True, layout=mine)
    name = f"ostiary-{os.getpid()}-1"
    dead = (
        layout.handler.parents[1] / name,
        layout.passing.with_name(name),
        layout.passing.with_name(f"{name}-lasting"),
    )
    for directory in dead:
        directory.mkdir(parents=True)
        (directory / "any").write_text("left")
    layout.conf.with_name(f"{name}.conf").write_text("left")
    assert [each.prefix for each in waste(layout)] == [f"{name}:"]
    install.install("other", SOCKET, uid=0, is_lasting=False, layout=layout)
    assert waste(layout) == []
    assert not any(directory.exists() for directory in dead)
    assert not layout.conf.with_name(f"{name}.conf").exists()
    assert install.probe(mine).is_usable


# A test run of another checkout, in small: its own layout, a manager, and requests until it is told to stop.
_RUN = """
import sys, uuid
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from keyutils import agent_keys, install
from tests.support.upcall import LAYOUT, Managers, key_answer, answer_for, request
assert install.__file__.startswith(sys.argv[1])
agent_keys.join_session()
managers = Managers(Path(sys.argv[3]))
rounds = 0
print(LAYOUT.handler, flush=True)
while sys.argv[2] == "killed" or rounds < 10:
    agent = str(uuid.uuid4())
    managers.start(answer_for(agent, key_answer(b"theirs")))
    assert request(agent) == b"theirs"
    rounds += 1
    print(rounds, flush=True)
managers.stop()
"""


@pytest.fixture
def other_checkout(tmp_path: Path) -> Path:
    """The package as another checkout has it: the handler's text differs, the wire version too."""
    checkout = tmp_path / "checkout"
    for folder in ("keyutils", "tests/keyutils", "tests/support"):
        (checkout / folder).mkdir(parents=True)
        for source in (ROOT / folder).glob("*.py"):
            (checkout / folder / source.name).write_bytes(source.read_bytes())
    module = checkout / "keyutils/request_key_handler.py"
    module.write_text(module.read_text().replace(THIS_WIRE, "WIRE_VERSION = 9"))
    return checkout


def start_run(checkout: Path, how: str) -> subprocess.Popen[str]:
    directory = checkout / how
    directory.mkdir()
    return subprocess.Popen(
        [sys.executable, "-c", _RUN, checkout, how, directory],
        cwd=checkout,
        stdout=subprocess.PIPE,
        text=True,
    )


def in_its_first_round(run: subprocess.Popen[str]) -> Path:
    """Wait until the run has had a key made; return its handler."""
    assert run.stdout is not None
    handler = Path(run.stdout.readline().strip())
    assert run.stdout.readline() == "1\n"
    return handler


def test_runs_of_two_checkouts_and_a_killed_one_work_side_by_side(
    session: KeySerial, other_checkout: Path, tmp_path: Path
) -> None:
    """Handlers of two wire versions serve side by side; the next install removes what the killed run left."""
    missing = install.probe(LAYOUT).missing
    if missing:
        pytest.skip("; ".join(missing))
    managers = Managers(tmp_path)
    with start_run(other_checkout, "killed") as killed, start_run(other_checkout, "whole") as whole:
        try:
            left = in_its_first_round(killed), in_its_first_round(whole)
            whole.send_signal(signal.SIGSTOP)  # it would sweep what the other leaves
            killed.kill()
            killed.wait()
            assert left[0].exists()
            whole.send_signal(signal.SIGCONT)
            for _ in range(5):
                agent = str(uuid.uuid4())
                managers.start(answer_for(agent, key_answer(b"mine")))
                assert request(agent) == b"mine"
            assert not left[0].exists()
            assert whole.wait(PATIENCE_S) == 0
        finally:
            managers.stop()
            killed.kill()
            whole.kill()
    assert not left[1].exists()
