"""Start a zygote for tests with single layers off. Run as a script:

    sandbox_launch.py IMPORT_PATH LANGUAGE USER OFF ARGUMENTS...

LANGUAGE is `restricted` or `unrestricted` (plain exec, all builtins); USER a numeric user to become first, or
`-`; OFF is `seccomp` or `-`. Production has no such switches: this file is the only place where they exist.
"""

# ruff: noqa: E402 - the import path comes from the command line

from __future__ import annotations

import sys

sys.path[:0] = sys.argv.pop(1).split(":")

# What hostile code wants to use is imported here, so that its calls meet the filter and not a failing import.
import builtins
import ctypes
import gc
import os
import signal
import socket
import time

from credsvc.formula.injected import INJECTED
from credsvc.sandbox import seccomp, zygote
from credsvc.sandbox.worker import Language, restricted_language

PRELOADED = (ctypes, gc, signal, socket, time)


def unrestricted_language() -> Language:
    """The language layer off."""
    return Language(
        compile_source=lambda source: compile(source, "<unrestricted>", "exec"),
        fresh_globals=lambda: {"__builtins__": builtins, "SOCK_FD": 3, **INJECTED},
    )


def main() -> None:
    """Take off what the test wants off and run."""
    language_name, user, off = sys.argv[1:4]
    settings = zygote.parse_arguments(sys.argv[4:])
    language = restricted_language(INJECTED) if language_name == "restricted" else unrestricted_language()
    if off == "seccomp":
        seccomp.install = lambda: None
    if user != "-":
        os.setgroups([])
        os.setresgid(int(user), int(user), int(user))
        os.setresuid(int(user), int(user), int(user))
    zygote.run(settings, language, INJECTED)


if __name__ == "__main__":
    main()
