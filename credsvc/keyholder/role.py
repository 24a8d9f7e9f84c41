"""A credentials service's keyholder: evaluates approved formulas over sealed secrets."""

from __future__ import annotations

from pathlib import Path

from credsvc.config import SERVICE
from ostiary.keyholder.credential_keys import CredentialKeys
from ostiary.keyholder.credentials import CredentialEvaluator
from ostiary.keyholder.role import run_keyholder
from ostiary.keyholder.seal import Sealer
from ostiary.keyholder.sealed_credential import CREDENTIAL_PURPOSE


def run(home_path: Path) -> None:
    """Be the keyholder until told to stop."""
    run_keyholder(home_path, service=SERVICE, kind=CredentialKeys, evaluator=_evaluator)


def _evaluator(keys: CredentialKeys, kek: bytes) -> CredentialEvaluator:
    return CredentialEvaluator(keys, Sealer(kek, purpose=CREDENTIAL_PURPOSE))
