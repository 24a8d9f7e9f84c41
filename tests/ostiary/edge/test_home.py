"""Where the places of a service lie below its home."""

from __future__ import annotations

from pathlib import Path

from ostiary.edge.home import ServiceHome
from ostiary.edge.keyholder_home import KeyholderHome

HOME = ServiceHome(Path("/srv/ca"))


def test_every_place_lies_below_the_home_and_no_two_are_the_same() -> None:
    names = [
        name for name, value in vars(ServiceHome).items() if isinstance(value, property) and name[0] != "_"
    ]
    places = [getattr(HOME, name) for name in names]
    assert all(place.is_relative_to(HOME.path) and place != HOME.path for place in places)
    assert len(set(places)) == len(places) >= 10


def test_a_keyholder_finds_its_places_where_the_service_has_them() -> None:
    keyholder = KeyholderHome(HOME.path)
    assert keyholder.config == HOME.config
    assert keyholder.directory == HOME.keyholder
    assert (keyholder.sealed_keys, keyholder.high_water) == (HOME.sealed_keys, HOME.high_water)
    assert keyholder.socket == HOME.channel("keyholder")


def test_secrets_and_channels_lie_in_directories_that_can_be_closed() -> None:
    assert {HOME.sealed_keys.parent, HOME.high_water.parent} == {HOME.keyholder}
    assert HOME.database.parent == HOME.store
    channels = [HOME.channel(name) for name in ("keyholder", "front")] + [HOME.operator_socket]
    assert len({channel.parent for channel in channels}) == 3
    assert all(channel.parent.parent == HOME.run for channel in channels)
