"""Where the upcall's files lie: private layouts share nothing, and tell their owner."""

from __future__ import annotations

import os
import subprocess
from dataclasses import fields
from pathlib import Path

import pytest

from keyutils.layout import MACHINE, Layout, private_layout, start_time, waste


@pytest.fixture
def root(tmp_path: Path) -> Layout:
    """The machine's layout in a directory; needs no root, for nothing is installed."""
    made = Layout(
        conf=tmp_path / "request-key.d/ostiary.conf",
        handler=tmp_path / "libexec/ostiary/request-key",
        lasting=tmp_path / "etc/ostiary/managers.d",
        passing=tmp_path / "run/ostiary-managers",
    )
    for directory in (made.conf.parent, made.handler.parent, made.lasting, made.passing):
        directory.mkdir(parents=True)
    return made


def test_a_private_layout_shares_only_request_key_itself(root: Layout) -> None:
    private = private_layout(root)
    shared = {each.name for each in fields(Layout) if getattr(private, each.name) == getattr(root, each.name)}
    assert shared == {"request_key"}
    assert private.prefix == f"ostiary-{os.getpid()}-{start_time(os.getpid())}:"
    assert private.module.parent == private.handler.parent


def test_no_prefix_begins_another() -> None:
    """request-key takes the conf line with the shortest wildcard: a common beginning would make two match."""
    private = private_layout().prefix
    assert not private.startswith(MACHINE.prefix)
    assert not MACHINE.prefix.startswith(private)


def test_a_start_time_tells_a_process_from_a_later_one() -> None:
    child = subprocess.Popen(["sleep", "30"])
    started = start_time(child.pid)
    assert started is not None
    assert started.isdecimal()
    assert int(started) >= int(start_time(os.getpid()) or 0)
    child.kill()
    child.wait()
    assert start_time(child.pid) != started


@pytest.mark.parametrize("part", ["conf", "handler", "lasting", "passing"])
def test_any_part_that_a_dead_owner_left_is_waste(root: Layout, part: str) -> None:
    name = f"ostiary-{os.getpid()}-1"  # this process's number with another start
    left = {
        "conf": root.conf.with_name(f"{name}.conf"),
        "handler": root.handler.parents[1] / name,
        "lasting": root.passing.with_name(f"{name}-lasting"),
        "passing": root.passing.with_name(name),
    }[part]
    left.mkdir()
    assert [each.prefix for each in waste(root)] == [f"{name}:"]


def test_the_layout_of_a_living_owner_and_other_names_are_no_waste(root: Layout) -> None:
    private_layout(root).passing.mkdir()
    for name in ("ostiary-managers", "ostiary-1", "ostiary-a-b", "other-1-2"):
        (root.passing.parent / name).mkdir(exist_ok=True)
    assert waste(root) == []
