"""Copies what is read but never imported (credential modules, example clients, documents) into the wheel.

Settings are in pyproject.toml. This file exists because `modules/`, `clients/` and `docs/` stand
beside the packages in a checkout and inside the package `ostiary` in a wheel (`ostiary/_shipped/`);
`ostiary.shipped` finds them in both.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("modules", "clients", "docs")


class BuildWithData(build_py):
    """Build the packages, then put the data folders under ostiary/_shipped/."""

    def run(self) -> None:
        """Copy after the packages; an editable install reads the folders where they stand."""
        super().run()
        if self.editable_mode:
            return
        shipped = Path(self.build_lib) / "ostiary" / "_shipped"
        shutil.rmtree(shipped, ignore_errors=True)
        for name in SHIPPED:
            if Path(name).is_dir():
                shutil.copytree(name, shipped / name, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))


setup(cmdclass={"build_py": BuildWithData})
