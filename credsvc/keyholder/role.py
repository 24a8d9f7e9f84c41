"""A credentials service's keyholder: evaluates approved formulas over sealed secrets."""

from __future__ import annotations

from pathlib import Path

from credsvc.keyholder.evaluator import CredentialEvaluator
from credsvc.keyholder.keys import CredentialKeys
from credsvc.keyholder.sealed_credential import CREDENTIAL_PURPOSE
from credsvc.service_name import SERVICE
from ostiary.keyholder.role import run_keyholder
from ostiary.keyholder.seal import Sealer


def run(home_path: Path) -> None:
    """Be the keyholder until the supervisor stops it."""
    run_keyholder(home_path, service=SERVICE, kind=CredentialKeys, evaluator=_evaluator)


def _evaluator(keys: CredentialKeys, kek: bytes) -> CredentialEvaluator:
    return CredentialEvaluator(keys, Sealer(kek, purpose=CREDENTIAL_PURPOSE))
