"""A service's home: its paths, and who may enter which of them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers

BASE = 61_000
CHANNELS = ("keyholder", "front", "admin", "responder", "ocsp", "sandbox", "operator")


@pytest.fixture
def home(tmp_path: Path) -> ServiceHome:
    return ServiceHome(tmp_path / "ca")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_everything_lies_below_the_home(home: ServiceHome) -> None:
    names = [name for name, value in vars(ServiceHome).items() if isinstance(value, property)]
    paths = [getattr(home, name) for name in names]
    assert len(set(paths)) == len(paths)
    assert all(path.is_relative_to(home.path) for path in paths)


def test_a_channel_has_a_directory_of_its_own(home: ServiceHome) -> None:
    assert home.channel("operator") == home.operator_socket
    assert len({home.channel(name).parent for name in CHANNELS}) == len(CHANNELS)


def test_what_is_laid_out_is_closed_but_for_what_is_public(home: ServiceHome) -> None:
    home.lay_out(RoleUsers(base=None))
    assert {mode(path) for path in (home.path, home.public, home.run)} == {0o755}
    assert mode(home.keyholder) == 0o700
    assert mode(home.store) == 0o2750
    closed = [home.channel(name).parent for name in CHANNELS if name != "operator"]
    assert {mode(path) for path in closed} == {0o750}
    assert mode(home.operator_socket.parent) == 0o755


def test_laying_out_again_repairs_modes_and_keeps_content(home: ServiceHome) -> None:
    users = RoleUsers(base=None)
    home.lay_out(users)
    home.sealed_keys.write_bytes(b"sealed")
    home.keyholder.chmod(0o755)
    home.lay_out(users)
    assert mode(home.keyholder) == 0o700
    assert home.sealed_keys.read_bytes() == b"sealed"


@pytest.mark.skipif(os.getuid() != 0, reason="needs root: only root gives files to other users")
def test_each_role_owns_its_directories_and_the_asking_role_may_enter(home: ServiceHome) -> None:
    users = RoleUsers(base=BASE)
    home.lay_out(users)
    home.sealed_keys.write_bytes(b"sealed")
    outside = home.path.parent / "outside"
    outside.write_bytes(b"")
    home.high_water.symlink_to(outside)
    home.lay_out(users)

    def owners(path: Path) -> tuple[int, int]:
        found = path.lstat()
        return found.st_uid, found.st_gid

    keyholder, recorder = users.uid(RoleName.KEYHOLDER), users.uid(RoleName.RECORDER)
    assert owners(home.keyholder) == owners(home.sealed_keys) == (keyholder, keyholder)
    assert owners(home.store) == (recorder, users.readers_gid())
    assert owners(home.channel("keyholder").parent) == (keyholder, recorder)
    assert owners(home.channel("front").parent) == (recorder, users.gid(RoleName.FRONT))
    # A link is given away itself, never what it points to.
    assert owners(home.high_water) == (keyholder, keyholder)
    assert owners(outside) == (0, os.getgid())
