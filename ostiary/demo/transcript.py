"""The demonstration's transcript: numbered steps with their checks; the first check that fails ends it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape

from ostiary.errors import OstiaryError


class CheckFailed(OstiaryError):
    """A check of the demonstration did not hold."""

    kind = "internal-fault"


class Transcript:
    """Prints steps and checks; `checks` counts those that held."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._started_s = time.monotonic()
        self._step = 0
        self.checks = 0

    @contextmanager
    def step(self, title: str) -> Iterator[None]:
        """Print a step's number and title, and at its end how long it took."""
        self._step += 1
        started_s = time.monotonic()
        self._console.print(f"\n[bold]{self._step:2}. {escape(title)}[/bold]")
        yield
        self._console.print(f"    [dim]{time.monotonic() - started_s:.1f} s[/dim]")

    def tell(self, text: str) -> None:
        """Print something worth knowing that is not a check."""
        self._console.print(f"    {escape(text)}")

    def check(self, condition: bool, text: str) -> None:  # noqa: FBT001 - the condition is what it is about
        """Print that `text` is true if `condition` holds; else raise CheckFailed."""
        if not condition:
            self._console.print(f"    [bold red]✗[/bold red] {escape(text)}")
            raise CheckFailed(f"step {self._step} of the demonstration failed; it is not true that {text}")
        self.checks += 1
        self._console.print(f"    [green]✓[/green] {escape(text)}")

    def finish(self) -> None:
        """Print the last line."""
        elapsed_s = time.monotonic() - self._started_s
        self._console.print(
            f"\n[bold green]{self.checks} checks, all true, in {elapsed_s:.1f} s.[/bold green]"
        )
