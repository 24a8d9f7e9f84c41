"""The built wheel works without a checkout: the command starts and finds the data inside the wheel."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.checkout import copy_checkout
from tests.support.repository import ROOT


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = tmp_path_factory.mktemp("sources")
    copy_checkout(sources)
    (sources / "modules" / "sample" / "vectors").mkdir(parents=True)
    (sources / "modules" / "sample" / "vectors" / "one.json").write_text("{}")
    built = tmp_path_factory.mktemp("built")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(built), str(sources)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (wheel,) = built.glob("*.whl")
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def _run(site: Path, *arguments: str) -> str:
    env = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd="/", env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_command_starts_from_the_wheel(unpacked: Path) -> None:
    assert "doctor" in _run(unpacked, "-m", "ostiary.cli", "--help")
    assert _run(unpacked, "-c", "import ostiary; print(ostiary.__file__)").startswith(str(unpacked))


def test_credential_modules_are_found_inside_the_wheel(unpacked: Path) -> None:
    probe = "from ostiary.shipped import module_library; print(module_library())"
    library = Path(_run(unpacked, "-c", probe).strip())
    assert library == unpacked / "ostiary" / "_shipped" / "modules"
    assert (library / "sample" / "vectors" / "one.json").read_text() == "{}"
    in_checkout = {path.parent.name for path in (ROOT / "modules").glob("*/manifest.toml")}
    assert in_checkout <= {path.parent.name for path in library.glob("*/manifest.toml")}


def test_only_our_packages_are_in_the_wheel(unpacked: Path) -> None:
    tops = {path.name for path in unpacked.iterdir() if not path.name.endswith(".dist-info")}
    assert tops <= {"ostiary", "ca", "certmgr", "credsvc", "keyutils"}
    assert not list(unpacked.rglob("test_*.py"))


def test_the_command_and_the_keyring_backend_are_announced(unpacked: Path) -> None:
    (announced,) = unpacked.glob("*.dist-info/entry_points.txt")
    lines = announced.read_text().splitlines()
    assert "ostiary = ostiary.cli:main" in lines
    assert "ostiary = keyutils.backend" in lines


def test_every_source_package_is_in_the_wheel(unpacked: Path) -> None:
    for top in ("ostiary", "ca", "certmgr", "credsvc", "keyutils"):
        for source in (ROOT / top).rglob("*.py"):
            assert (unpacked / source.relative_to(ROOT)).is_file(), source


@pytest.mark.parametrize("service", ["ca", "credsvc"])
def test_a_store_is_made_from_the_wheels_migrations(unpacked: Path, tmp_path: Path, service: str) -> None:
    program = (
        "import sqlalchemy, sys; from pathlib import Path; from ostiary.store.database import open_for_writing, sqlite_url; "
        "from ostiary.store.migrate import upgrade; engine = open_for_writing(sqlite_url(Path(sys.argv[1]))); "
        "upgrade(engine, migrations=sys.argv[2]); print(*sqlalchemy.inspect(engine).get_table_names())"
    )
    tables = _run(
        unpacked, "-c", program, str(tmp_path / "store.sqlite"), f"{service}.store.migrations"
    ).split()
    assert "alembic_version" in tables
    assert len(tables) > 3
