"""The operators' verbs of a credentials service, all of them: credentials, modules, policies, the ledger.

What changes something is a work item on the recorder's admin channel, with the operator's name in it; what
only reads comes from the store.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Engine

from credsvc.admin.credential_verbs import credential_verbs
from credsvc.admin.module_verbs import module_verbs
from credsvc.admin.policy_verbs import policy_verbs
from credsvc.config import Config
from credsvc.store.tables import LEDGER
from ostiary.admin.ledger_verbs import ledger_verbs
from ostiary.admin.server import Verb
from ostiary.recorder.client import RecorderClient


def make_verbs(config: Config, recorder: RecorderClient, engine: Engine) -> Mapping[str, Verb]:
    """The verbs by name; `engine` cannot write."""
    return {
        **credential_verbs(recorder, engine),
        **module_verbs(recorder, engine),
        **policy_verbs(recorder, engine),
        **ledger_verbs(engine, LEDGER, origin=config.origin),
    }
