"""The demonstration's transcript: numbered steps, what was checked in each, and the end at the first check that
fails.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from ostiary.errors import OstiaryError


class CheckFailed(OstiaryError):
    """A step did not do what it says."""

    kind = "internal-fault"


class Transcript:
    """Tells and checks; `checks` counts what was found true."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started_s = time.monotonic()
        self._step = 0
        self.checks = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """One numbered step."""
        self._step += 1
        started_s = time.monotonic()
        self._console.print(f"\n[bold]{self._step:2}. {escape(title)}[/bold]")
        yield
        self._console.print(f"    [dim]{time.monotonic() - started_s:.1f} s[/dim]")

    def tell(self, text: str) -> None:
        """Something worth knowing that is not a check."""
        self._console.print(f"    {escape(text)}")

    def check(self, condition: bool, text: str) -> None:  # noqa: FBT001 - the condition is what it is about
        """Say that something is true, after it was found so; CheckFailed otherwise."""
        if not condition:
            self._console.print(f"    [bold red]✗[/bold red] {escape(text)}")
            raise CheckFailed(f"the demonstration's step {self._step} failed: not true that {text}")
        self.checks += 1
        self._console.print(f"    [green]✓[/green] {escape(text)}")

    def finish(self) -> None:
        """The last line."""
        elapsed_s = time.monotonic() - self._started_s
        self._console.print(
            f"\n[bold green]{self.checks} checks, all true, in {elapsed_s:.1f} s.[/bold green]"
        )
