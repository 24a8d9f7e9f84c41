"""Who may enter which place of a service's home."""

from __future__ import annotations

from pathlib import Path

from ostiary.edge.home import ServiceHome
from ostiary.edge.home_layout import lay_out
from ostiary.edge.users import RoleName, RoleUsers
from tests.support.need import require_root

BASE = 61300


def _mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_the_keyholders_place_is_its_own_and_the_store_is_read_by_its_group(tmp_path: Path) -> None:
    home = ServiceHome(tmp_path / "service")
    lay_out(home, RoleUsers(base=None))
    assert _mode(home.keyholder) == 0o700
    assert _mode(home.store) == 0o2750
    assert {_mode(place) for place in (home.path, home.public, home.run)} == {0o755}
    assert {_mode(home.channel(name).parent) for name in ("keyholder", "front", "admin", "ocsp")} == {0o750}
    assert _mode(home.operator_socket.parent) == 0o755


def test_laying_out_again_mends_a_mode_and_keeps_the_files(tmp_path: Path) -> None:
    home = ServiceHome(tmp_path / "service")
    lay_out(home, RoleUsers(base=None))
    home.sealed_keys.write_bytes(b"sealed")
    home.keyholder.chmod(0o755)
    lay_out(home, RoleUsers(base=None))
    assert _mode(home.keyholder) == 0o700
    assert home.sealed_keys.read_bytes() == b"sealed"


def test_each_channel_belongs_to_who_listens_and_admits_who_asks(tmp_path: Path) -> None:
    require_root()
    home, users = ServiceHome(tmp_path / "service"), RoleUsers(base=BASE)
    lay_out(home, users)
    found = {place.name: ((status := place.stat()).st_uid, status.st_gid) for place in home.run.iterdir()}
    role = RoleName
    assert found == {
        "keyholder": (BASE + role.KEYHOLDER, BASE + role.RECORDER),
        "front": (BASE + role.RECORDER, BASE + role.FRONT),
        "admin": (BASE + role.RECORDER, BASE + role.ADMIN),
        "responder": (BASE + role.RECORDER, BASE + role.RESPONDER),
        "ocsp": (BASE + role.RESPONDER, BASE + role.STATUS),
        "staple": (BASE + role.RESPONDER, BASE + role.FRONT),
        "sandbox": (BASE + role.SANDBOX, BASE + role.FRONT),
        "operator": (BASE + role.ADMIN, BASE + role.ADMIN),
    }


def test_what_root_wrote_into_a_roles_directory_becomes_the_roles(tmp_path: Path) -> None:
    require_root()
    home, users = ServiceHome(tmp_path / "service"), RoleUsers(base=BASE)
    lay_out(home, users)
    home.sealed_keys.write_bytes(b"sealed")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"root's")
    (home.store / "link").symlink_to(elsewhere)
    lay_out(home, users)
    assert home.sealed_keys.stat().st_uid == users.uid(RoleName.KEYHOLDER)
    assert (home.store / "link").lstat().st_uid == users.uid(RoleName.RECORDER)
    assert elsewhere.stat().st_uid == 0
