"""The built wheel works without a checkout, data included; the source distribution builds the same one."""

from __future__ import annotations

import email
import json
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.message import Message
from pathlib import Path

import pytest

from tests.support.checkout import copy_checkout
from tests.support.repository import ROOT


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sources")
    copy_checkout(made)
    (made / "modules" / "sample" / "vectors").mkdir(parents=True)
    (made / "modules" / "sample" / "vectors" / "one.json").write_text("{}")
    return made


def _build(sources: Path, target: Path, *options: str) -> Path:
    """The folder with what was built; without network, by the setuptools of the lock."""
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(target), *options]
    done = subprocess.run([*command, str(sources)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture(scope="module")
def wheel(sources: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    (made,) = _build(sources, tmp_path_factory.mktemp("built"), "--wheel").glob("*.whl")
    return made


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)  # noqa: S202  # built a moment ago
    return site


@pytest.fixture(scope="module")
def metadata(unpacked: Path) -> Message:
    (found,) = unpacked.glob("*.dist-info/METADATA")
    return email.message_from_string(found.read_text("utf-8"))


def _start(site: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    env = {"PYTHONPATH": str(site), "PATH": "/usr/bin:/bin"} | environment
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd="/", env=env, capture_output=True, text=True, check=False)


def _run(site: Path, *arguments: str) -> str:
    done = _start(site, *arguments)
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


def test_every_document_is_in_the_wheel(unpacked: Path) -> None:
    probe = "from ostiary.shipped import shipped_directory; print(shipped_directory('docs'))"
    inside = Path(_run(unpacked, "-c", probe).strip())
    assert inside == unpacked / "ostiary" / "_shipped" / "docs"
    beside = {path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*") if path.is_file()}
    assert {Path("security.md"), Path("openapi.yaml"), Path("adr/0001-shared-package.md")} <= beside
    assert {path.relative_to(inside) for path in inside.rglob("*") if path.is_file()} == beside
    for name in beside:
        assert (inside / name).read_bytes() == (ROOT / "docs" / name).read_bytes()


def test_the_licence_is_in_the_wheel_and_named(unpacked: Path, metadata: Message) -> None:
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    (text,) = unpacked.glob("*.dist-info/licenses/LICENSE")
    assert text.read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert "Apache License\n                           Version 2.0, January 2004" in text.read_text("utf-8")


def test_the_metadata_says_what_it_is(metadata: Message) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    assert metadata["Summary"] == project["description"]
    assert set(metadata["Requires-Python"].split(",")) == set(project["requires-python"].split(","))
    assert metadata.get_all("Classifier") == project["classifiers"]
    assert metadata["Keywords"].split(",") == project["keywords"]
    assert set(metadata.get_all("Provides-Extra", [])) == set(project["optional-dependencies"])
    assert str(metadata.get_payload()).startswith("# Ostiary\n")


def test_the_demonstration_without_its_extra_says_how_to_install_it(unpacked: Path, tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['boto3'] = None; sys.argv = ['ostiary', '--json', 'demo'];"
        "from ostiary.cli import main; main()"
    )
    done = _start(unpacked, "-c", program, TMPDIR=str(tmp_path))
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (1, "", [])
    assert "pip install 'ostiary[demo]'" in json.loads(done.stderr)["detail"]


def test_the_source_distribution_builds_the_same_wheel(sources: Path, wheel: Path, tmp_path: Path) -> None:
    built = _build(sources, tmp_path / "both")  # a source distribution, and a wheel of nothing else
    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        inside = {name.partition("/")[2] for name in opened.getnames()}
    assert {"LICENSE", "README.md", "CHANGELOG.md", "requirements.lock", "docs/openapi.yaml"} <= inside
    (other,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as one, zipfile.ZipFile(other) as two:
        assert sorted(one.namelist()) == sorted(two.namelist())
        differing = [name for name in one.namelist() if one.read(name) != two.read(name)]
    assert differing == []


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
        "import sqlalchemy, sys; from pathlib import Path;"
        "from ostiary.store.database import open_for_writing, sqlite_url;"
        "from ostiary.store.migrate import upgrade;"
        "engine = open_for_writing(sqlite_url(Path(sys.argv[1]))); upgrade(engine, migrations=sys.argv[2]);"
        "print(*sqlalchemy.inspect(engine).get_table_names())"
    )
    tables = _run(
        unpacked, "-c", program, str(tmp_path / "store.sqlite"), f"{service}.store.migrations"
    ).split()
    assert "alembic_version" in tables
    assert len(tables) > 3
