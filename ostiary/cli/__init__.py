"""The command line; each group of commands is one file, loaded when somebody calls it."""

from ostiary.cli.root import main

__all__ = ["main"]
