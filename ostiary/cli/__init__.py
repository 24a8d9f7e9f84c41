"""The command line; one file for each group of commands, loaded when it is called."""

from ostiary.cli.root import main

__all__ = ["main"]
