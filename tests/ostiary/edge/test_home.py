"""Where the places of a service lie below its home."""

from __future__ import annotations

from pathlib import Path

from ostiary.edge.home import ServiceHome

HOME = ServiceHome(Path("/srv/ca"))


def test_every_place_lies_below_the_home_and_no_two_are_the_same() -> None:
    names = [name for name, value in vars(ServiceHome).items() if isinstance(value, property)]
    places = [getattr(HOME, name) for name in names]
    assert all(place.is_relative_to(HOME.path) and place != HOME.path for place in places)
    assert len(set(places)) == len(places) >= 10


def test_secrets_and_channels_lie_in_directories_that_can_be_closed() -> None:
    assert {HOME.sealed_keys.parent, HOME.high_water.parent} == {HOME.keyholder}
    assert HOME.database.parent == HOME.store
    channels = [HOME.channel(name) for name in ("keyholder", "front")] + [HOME.operator_socket]
    assert len({channel.parent for channel in channels}) == 3
    assert all(channel.parent.parent == HOME.run for channel in channels)
