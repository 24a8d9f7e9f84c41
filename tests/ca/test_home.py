"""A CA's home: files by name, settings that the command line may override, and a plain word where there is
none.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from ca.home import LISTEN_VARIABLE, CAHome
from ca.init import InitPlan, init_ca
from ostiary.edge.users import RoleUsers
from ostiary.errors import Misconfigured, OstiaryError
from tests.support.ca_settings import RIGHT


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> CAHome:
    made = CAHome.at(tmp_path_factory.mktemp("home") / "ca")
    init_ca(made, InitPlan(settings=RIGHT, ask=None, recovery=None), users=RoleUsers(base=None))
    return made


def test_what_init_wrote_is_found(home: CAHome) -> None:
    home.issuing().verify_directly_issued_by(home.root())
    assert home.verifier().name == "shop.example/ca"
    assert home.profile().issuer_subject_der == home.issuing().subject.public_bytes()
    for path in (home.root_file, home.issuing_file, home.root_crl_file, home.verifier_file):
        assert path.parent == home.places.public
        assert path.is_file()
    assert home.sealed_root.parent not in {home.places.public, home.places.keyholder}


def test_the_command_line_overrides_where_the_front_listens(
    home: CAHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert str(home.config().listen) == "127.0.0.1:8443"
    monkeypatch.setenv(LISTEN_VARIABLE, "[::1]:9443")
    assert (str(home.config().listen), home.config().url) == ("[::1]:9443", "https://[::1]:9443")


def test_without_settings_there_is_no_ca(tmp_path: Path) -> None:
    with pytest.raises(Misconfigured, match="ostiary ca init"):
        CAHome.at(tmp_path / "ca").config()


def test_a_file_that_grew_beyond_all_measure_is_not_read(home: CAHome, tmp_path: Path) -> None:
    places = tmp_path / "ca" / "public"
    places.mkdir(parents=True)
    (places / "root.pem").write_bytes(home.root_file.read_bytes() + b" " * (1 << 20))
    with pytest.raises(OstiaryError):
        CAHome.at(tmp_path / "ca").root()
