"""Installing and taking away the upcall's handler, in a directory instead of the machine."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from keyutils import install, request_key_handler
from keyutils.layout import Layout

SOCKET = Path("/run/ostiary/certmgr.sock")


def test_install_writes_conf_handler_and_registration(layout: Layout) -> None:
    assert not install.probe(layout).is_usable
    status = install.install("main", SOCKET, uid=7, is_lasting=True, layout=layout)
    assert status == install.Status(missing=(), absent=(), managers=("main",))
    assert status.is_usable
    assert layout.conf.read_text().endswith(f"create user ostiary:* * {layout.handler} %k\n")
    assert (layout.lasting / "main").read_text() == f"{SOCKET}\n7\n"
    assert layout.handler.read_text().startswith(f"#!{install.find_interpreter()} -ISE\n")
    assert layout.module.read_bytes() == Path(request_key_handler.__file__).read_bytes()
    assert len(list(layout.module.parent.glob("__pycache__/*.pyc"))) == 1
    modes = {stat.S_IMODE(p.stat().st_mode) for p in (layout.handler, layout.lasting, layout.passing)}
    assert modes == {0o755}
    assert stat.S_IMODE(layout.conf.stat().st_mode) == 0o644


def test_handler_reads_what_install_wrote(layout: Layout) -> None:
    install.install("b-test", SOCKET, uid=7, is_lasting=False, layout=layout)
    install.install("z-real", SOCKET, uid=8, is_lasting=True, layout=layout)
    found = request_key_handler.load_managers((str(layout.lasting), str(layout.passing)))
    assert found == [(str(SOCKET), 8), (str(SOCKET), 7)]


def test_directory_that_others_may_write_is_ignored(layout: Layout) -> None:
    install.install("main", SOCKET, uid=7, is_lasting=True, layout=layout)
    layout.lasting.chmod(0o777)
    assert request_key_handler.load_managers((str(layout.lasting),)) == []


def test_last_to_leave_removes_everything(layout: Layout, tmp_path: Path) -> None:
    install.install("one", SOCKET, uid=0, is_lasting=True, layout=layout)
    install.install("two", SOCKET, uid=0, is_lasting=False, layout=layout)
    install.uninstall("one", is_lasting=True, layout=layout)
    assert layout.conf.exists()
    assert layout.handler.exists()
    status = install.uninstall("two", is_lasting=False, layout=layout)
    assert status.managers == ()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == []
    assert layout.conf.parent.is_dir()


def test_passing_install_leaves_a_lasting_ones_handler_alone(layout: Layout) -> None:
    install.install("real", SOCKET, uid=0, is_lasting=True, layout=layout)
    older = layout.module.read_text() + "# an older release\n"
    layout.module.write_text(older)
    install.install("demo", SOCKET, uid=0, is_lasting=False, layout=layout)
    assert layout.module.read_text() == older
    install.install("real", SOCKET, uid=0, is_lasting=True, layout=layout)
    assert layout.module.read_text() != older


def test_handler_of_another_wire_version_is_reported(layout: Layout) -> None:
    install.install("real", SOCKET, uid=0, is_lasting=True, layout=layout)
    layout.module.write_text(layout.module.read_text().replace("WIRE_VERSION = 1", "WIRE_VERSION = 9"))
    status = install.probe(layout)
    assert not status.is_usable
    assert "wire version 9" in status.absent[0]


def test_files_that_are_not_ours_stay(layout: Layout) -> None:
    layout.conf.write_text("create user ostiary:* * /opt/else %k\n")
    status = install.install("main", SOCKET, uid=0, is_lasting=True, layout=layout)
    assert not status.is_usable
    assert "does not run" in status.absent[0]
    install.uninstall("main", is_lasting=True, layout=layout)
    assert layout.conf.exists()
    layout.handler.parent.mkdir(parents=True)
    layout.handler.write_text("#!/bin/sh\n")
    with pytest.raises(install.InstallRefused, match="not made by Ostiary"):
        install.install("main", SOCKET, uid=0, is_lasting=True, layout=layout)


def test_missing_parts_are_named_and_nothing_changes(layout: Layout, tmp_path: Path) -> None:
    bare = Layout(
        request_key=tmp_path / "none",
        conf=tmp_path / "gone/ostiary.conf",
        handler=layout.handler,
        lasting=layout.lasting,
        passing=layout.passing,
    )
    with pytest.raises(install.InstallRefused) as caught:
        install.install("main", SOCKET, uid=0, is_lasting=True, layout=bare)
    assert [m.split(" (")[0] for m in caught.value.missing] == [
        f"needs {bare.request_key}",
        f"needs {bare.conf.parent}",
    ]
    assert not layout.handler.exists()


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "A", "a" * 65, "a\nb"])
def test_bad_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="manager name"):
        install.install(name, SOCKET, uid=0, is_lasting=True)


@pytest.mark.parametrize("path", ["relative", "/" + "a" * 107, "/a\nb"])
def test_bad_socket_path_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="socket path"):
        install.install("main", Path(path), uid=0, is_lasting=True)
