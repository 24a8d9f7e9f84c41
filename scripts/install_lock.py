"""Makes this Python's environment hold what requirements.lock names, this checkout, and nothing else.

Rules:
- The lock is complete, so pip resolves nothing (`--no-deps`). If it did, an extra that a dependency asks for
  (`coverage[toml]`) would be a requirement of its own to some versions of pip (23, Debian 12's), which look
  for its newest release. `pip check` at the end names what an incomplete lock lacks.
- Only wheels with a hash of the lock are installed. Nothing is built but this checkout, by the lock's
  setuptools.
- The machine says *where packages come from* (index, certificates, proxy, cache), in pip's configuration or
  in `PIP_` variables. It does not say *what* is installed, or *where to*: a user's constraint, target or
  build option does not reach pip here.
"""

from __future__ import annotations

import ast
import importlib.metadata
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / "requirements.lock"
_PIP: Final = (sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "--no-input")
# Options of pip that say where packages come from, as its configuration names them.
_SOURCES: Final = frozenset(
    {
        "cache-dir",
        "cert",
        "client-cert",
        "default-timeout",
        "extra-index-url",
        "find-links",
        "index-url",
        "keyring-provider",
        "no-cache-dir",
        "no-index",
        "proxy",
        "pypi-url",
        "retries",
        "timeout",
        "trusted-host",
    }
)


def main() -> None:
    """Install, remove, check; ends with pip's exit code where pip fails."""
    environment = _environment()
    locked = ("--require-hashes", "--only-binary", ":all:", "--requirement", str(LOCK))
    _pip(environment, "install", "--quiet", "--no-deps", *locked)
    if foreign := _foreign():
        sys.stderr.write(f"removing what the lock does not name: {' '.join(foreign)}\n")
        _pip(environment, "uninstall", "--quiet", "--yes", *foreign)
    # compat: a path file, so that a package that is new in the checkout is found without another set-up.
    editable = ("--config-settings", "editable_mode=compat", "--editable", str(ROOT))
    _pip(environment, "install", "--quiet", "--no-deps", "--no-build-isolation", *editable)
    _pip(environment, "check")


def _pip(environment: dict[str, str], *arguments: str) -> None:
    done = subprocess.run([*_PIP, *arguments], env=environment, check=False)
    if done.returncode != 0:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        sys.stderr.write(f"pip {arguments[0]} failed for Python {version}; its message is above\n")
        sys.exit(done.returncode)


def _environment() -> dict[str, str]:
    """This process's environment; of pip's configuration, only what says where packages come from."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    asked = kept | {name: os.environ[name] for name in ("PIP_CONFIG_FILE",) if name in os.environ}
    configured = subprocess.run(
        [*_PIP, "config", "list"], env=asked, stdout=subprocess.PIPE, text=True, check=False
    )
    if configured.returncode != 0:
        sys.exit("pip's configuration can't be read; its message is above")
    sources = {}
    # A line is `section.option='value'`; pip prefers the section of the command to `global`.
    for section in ("global", "install"):
        for option, value in re.findall(rf"^{section}\.([a-z-]+)=(.*)$", configured.stdout, re.MULTILINE):
            sources[option] = str(ast.literal_eval(value))
    for name, value in os.environ.items():
        if name.startswith("PIP_"):
            sources[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    told = {option: value for option, value in sources.items() if option in _SOURCES}
    variables = {f"PIP_{option.upper().replace('-', '_')}": value for option, value in told.items()}
    return kept | variables | {"PIP_CONFIG_FILE": os.devnull}


def _foreign() -> list[str]:
    """The installed distributions that neither the lock nor this checkout names; pip itself stays."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["name"]
    named = re.findall(r"^([A-Za-z0-9._-]+)==", LOCK.read_text("utf-8"), re.MULTILINE)
    wanted = {_normal(name) for name in (*named, project, "pip")}
    return sorted({_normal(each.name) for each in importlib.metadata.distributions()} - wanted)


def _normal(name: str) -> str:
    """A project's name as the index compares it (packaging.python.org, name normalization)."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
