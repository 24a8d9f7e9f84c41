"""A CA's keyholder: signs what was recorded and what its guards let pass."""

from __future__ import annotations

from pathlib import Path

from ca.keyholder.evaluator import CAEvaluator
from ca.keyholder.keys import CAKeys
from ostiary.keyholder.role import run_keyholder


def run(home_path: Path) -> None:
    """Be the keyholder until told to stop."""
    run_keyholder(home_path, service="ca", kind=CAKeys, evaluator=lambda keys, _kek: CAEvaluator(keys))
