"""A connection reads while nobody has a reason against it."""

from __future__ import annotations

import asyncio

from ostiary.front.pausing import Pausing


class Side(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def pause_reading(self) -> None:
        self.told.append("pause")

    def resume_reading(self) -> None:
        self.told.append("resume")


def test_it_reads_again_when_the_last_reason_is_gone() -> None:
    side, pausing = Side(), Pausing()
    pausing.begin(side)
    for reason, is_paused in (
        ("a", False),
        ("a", True),
        ("b", True),
        ("a", True),
        ("a", False),
        ("b", False),
    ):
        pausing.set(reason, is_paused=is_paused)
    assert side.told == ["pause", "resume"]


def test_at_the_end_it_reads_whatever_reasons_there_are() -> None:
    side, pausing = Side(), Pausing()
    pausing.begin(side)
    pausing.set("a", is_paused=True)
    pausing.end()
    pausing.set("b", is_paused=True)
    assert side.told == ["pause", "resume"]
