"""The table of a benchmark: the target, the measurement, and the factor by which the target was missed.

Rules:
- A factor above 1 is worse than asked, whether more or less is better.
- A number is failed beyond FAILED, unless an ADR says what will bring it there; the table names that ADR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

FAILED = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One number; exactly one of `at_least` and `at_most` is given, none where nothing is asked of it."""

    name: str
    measured: float
    unit: str
    at_least: float | None = None
    at_most: float | None = None
    adr: str = ""

    @property
    def factor(self) -> float | None:
        """How many times worse than asked; None where nothing is."""
        if self.at_least is not None:
            return self.at_least / self.measured if self.measured else float("inf")
        return None if self.at_most is None else self.measured / self.at_most

    @property
    def is_failed(self) -> bool:
        """Whether the number is beyond what an ADR need not explain."""
        return self.factor is not None and self.factor > FAILED and not self.adr


def print_table(rows: Sequence[Row]) -> int:
    """Print the rows; 1 where one failed."""
    print(f"{'':46} {'asked':>14} {'measured':>14} {'factor':>7}")
    for row in rows:
        asked = f">= {_number(row.at_least)}" if row.at_least is not None else ""
        asked = f"<= {row.at_most:,.1f}" if row.at_most is not None else asked
        value = f"{row.measured:,.0f}" if row.measured >= 100 else f"{row.measured:.2f}"
        factor = "" if row.factor is None else f"{row.factor:.2f}"
        note = "" if row.factor is None or row.factor <= 1 else " !"
        print(
            f"{row.name:46} {asked:>14} {value:>14} {factor:>7} {row.unit}{note}"
            + (f"  (ADR {row.adr})" if row.adr else "")
        )
    return int(any(row.is_failed for row in rows))


def _number(value: float) -> str:
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"
