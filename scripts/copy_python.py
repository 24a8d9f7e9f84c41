"""Copies the Python that runs this to where everybody may read it: copy_python.py DIRECTORY.

Why: root's Python may lie in root's home (pyenv's does). The roles of a service give up root and become users
who cannot start it there.

What: the interpreter, its shared library where it has one, and the standard library without its tests.
CPython finds its standard library from where the interpreter stands, so a copy needs no settings; but a build
with `--enable-shared` names the directory of its shared library in the ELF header (RUNPATH, see ld.so(8)).

Not checked: whether others can run the copy. They cannot where a library that it needs stays in the closed
place; `setup` tries it.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
from pathlib import Path

# Packages of others, tests, graphical programs, and what embedding needs (config-*: a static library of 50
# MB).
_LEFT_OUT = ("site-packages", "test", "tests", "idlelib", "turtledemo", "config-*")


def main() -> None:
    """Copy to the directory that the first argument names; prints the path of the new interpreter."""
    target = Path(sys.argv[1])
    prefix = Path(sys.base_prefix)
    interpreter = Path(sys.executable).resolve()
    for library in {Path(sysconfig.get_path(each)) for each in ("stdlib", "platstdlib")}:
        place = target / library.relative_to(prefix)
        shutil.copytree(library, place, ignore=shutil.ignore_patterns(*_LEFT_OUT), dirs_exist_ok=True)
    copy = target / "bin" / interpreter.name
    copy.parent.mkdir()
    shutil.copy2(interpreter, copy)
    if sysconfig.get_config_var("Py_ENABLE_SHARED"):
        for shared in (prefix / "lib").glob("libpython*.so*"):
            shutil.copy2(shared, target / "lib", follow_symlinks=False)
        _look_beside(copy, old=prefix / "lib")
    _open_to_all(target)
    sys.stdout.write(f"{copy}\n")


def _look_beside(interpreter: Path, *, old: Path) -> None:
    """Make a RUNPATH that names the old place relative. It is overwritten in place, so it must not grow."""
    was = os.fsencode(old) + b"\0"
    now = b"$ORIGIN/../lib".ljust(len(was), b"\0")
    if len(now) == len(was):
        interpreter.write_bytes(interpreter.read_bytes().replace(b"\0" + was, b"\0" + now))


def _open_to_all(target: Path) -> None:
    for folder, _, names in os.walk(target):
        for path in (Path(folder), *(Path(folder, name) for name in names)):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | (0o555 if mode & 0o100 else 0o444))


if __name__ == "__main__":
    main()
