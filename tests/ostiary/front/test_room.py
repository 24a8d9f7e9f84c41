"""Who may stay: deadlines in order, room taken from the source that needs it, and accounts that add up."""

from __future__ import annotations

from random import Random

import pytest

from ostiary.front.room import Phase, Room, RoomLimits

SECONDS = dict.fromkeys(Phase, 10.0) | {Phase.ARRIVING: 5.0, Phase.LEAVING: 2.0}


def room(
    connections: int = 100,
    source_connections: int = 100,
    held_bytes: int = 1000,
    source_held_bytes: int = 1000,
) -> Room[str]:
    return Room(
        RoomLimits(
            connections=connections,
            source_connections=source_connections,
            held_bytes=held_bytes,
            source_held_bytes=source_held_bytes,
            seconds=SECONDS,
        )
    )


def test_who_is_late_is_found_and_nobody_else() -> None:
    here = room()
    here.enter("a", "x", 0.0)
    here.enter("b", "x", 1.0)
    here.move("a", Phase.WORKING, 4.0)
    assert here.expired(5.9) == []
    assert here.expired(6.0) == ["b"]
    assert here.expired(14.0) == ["b", "a"]


def test_entering_a_phase_again_begins_its_time_anew() -> None:
    here = room()
    for key in ("a", "b"):
        here.enter(key, "x", 0.0)
        here.move(key, Phase.ANSWERING, 0.0)
    here.move("a", Phase.ANSWERING, 5.0)
    assert here.expired(10.0) == ["b"]
    assert here.phase("a") is Phase.ANSWERING


def test_a_source_beyond_its_share_makes_room_itself() -> None:
    here = room(source_connections=2)
    assert here.enter("other", "y", 0.0) is None
    assert here.enter("a", "x", 1.0) is None
    assert here.enter("b", "x", 2.0) is None
    assert here.enter("c", "x", 3.0) == "a"


def test_beyond_the_whole_the_longest_wait_makes_room() -> None:
    here = room(connections=2)
    here.enter("a", "x", 0.0)
    here.enter("b", "y", 1.0)
    assert here.enter("c", "z", 2.0) == "a"


@pytest.mark.parametrize(
    ("earlier", "later"),
    [
        (Phase.LEAVING, Phase.ARRIVING),
        (Phase.ARRIVING, Phase.ASKING),
        (Phase.ASKING, Phase.ANSWERING),
        (Phase.ANSWERING, Phase.IDLE),
    ],
)
def test_first_goes_who_will_be_missed_least(earlier: Phase, later: Phase) -> None:
    here = room(connections=2)
    for key, phase in (("first", later), ("second", earlier)):
        here.enter(key, "x", 0.0)
        here.move(key, phase, 0.0)
    assert here.enter("new", "x", 1.0) == "second"


def test_a_source_with_little_keeps_it_where_others_filled_the_room() -> None:
    """The newcomers' handshakes overlap; the attackers' connections are in a phase that is spared longer."""
    here = room(connections=6, source_connections=3)
    for source in ("x", "y"):
        for number in range(3):
            here.enter(f"{source}{number}", source, 0.0)
            here.move(f"{source}{number}", Phase.ASKING, 0.0)
    gone = []
    for number in range(3):
        must_go = here.enter(f"honest{number}", f"z{number}", 1.0 + number)
        assert must_go is not None
        gone.append(must_go)
        here.leave(must_go)
    assert gone == ["x0", "y0", "x1"]


def test_work_never_makes_room_so_the_newcomer_goes() -> None:
    here = room(connections=2, source_connections=2)
    for key in ("a", "b"):
        here.enter(key, "x", 0.0)
        here.move(key, Phase.WORKING, 0.0)
    assert here.enter("c", "x", 1.0) == "c"


def test_bytes_are_bounded_per_source_and_in_all() -> None:
    here = room(held_bytes=1000, source_held_bytes=600)
    for key, source in (("a", "x"), ("b", "x"), ("c", "y")):
        here.enter(key, source, 0.0)
    assert here.hold("a", 500) is None
    assert here.hold("b", 100) is None
    assert here.hold("b", 101) == "a"
    here.leave("a")
    assert here.hold("c", 600) is None
    assert here.hold("b", 401) == "c", "whose source holds most"
    assert here.hold("b", 1) is None, "less is always welcome"


def test_who_left_is_gone_whoever_says_so_twice() -> None:
    here = room()
    here.enter("a", "x", 0.0)
    here.leave("a")
    here.leave("a")
    assert len(here) == 0
    assert list(here) == []
    assert here.expired(100.0) == []


def test_whatever_happens_the_accounts_add_up() -> None:
    random, here, inside = Random(7), room(connections=12, source_connections=5), dict[str, int]()
    for number in range(3000):
        key = random.choice(list(inside)) if inside and random.random() < 0.8 else f"k{number}"
        if key not in inside:
            inside[key] = 0
            gone = here.enter(key, random.choice("xyz"), float(number))
        elif random.random() < 0.3:
            here.leave(key)
            del inside[key]
            continue
        elif random.random() < 0.5:
            here.move(key, random.choice(list(Phase)), float(number))
            gone = None
        else:
            inside[key] = random.randrange(200)
            gone = here.hold(key, inside[key])
        if gone is not None:
            here.leave(gone)
            del inside[gone]
        assert set(here) == set(inside)
        assert len(here) <= 12
        assert sum(inside.values()) <= 1000
