"""A CA's recorder: settings and profile in, `CAService` out, and the channels that it listens on."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ca.certificates.crl import CRLIssuer
from ca.certificates.profile import check_profile
from ca.home import MIGRATIONS, CAHome
from ca.recorder.publishing import Publisher
from ca.recorder.recording import CAService, CASettings
from ca.store.tables import LEDGER
from ostiary.edge.users import RoleName
from ostiary.recorder.role import run_recorder

_ASKING: Final = {
    "front": RoleName.FRONT,
    "admin": RoleName.ADMIN,
    "responder": RoleName.RESPONDER,
}


def run(home_path: Path) -> None:
    """Be the recorder until told to stop."""
    home = CAHome.at(home_path)
    run_recorder(home.place(), recorder_service(home), LEDGER, _ASKING, migrations=MIGRATIONS)


def recorder_service(home: CAHome) -> CAService:
    """The service that decides what this CA records."""
    config = home.config()
    profile = check_profile(config.profile(), home.issuing())
    issuer = CRLIssuer(
        subject_der=profile.issuer_subject_der,
        key_identifier=profile.issuer_key_identifier,
        signature_algorithm_der=profile.signature_algorithm_der,
    )
    settings = CASettings(
        origin=config.origin,
        node=config.node,
        grants={str(name): frozenset(map(str, held)) for name, held in config.grants.items()},
        signature_algorithm_der=profile.signature_algorithm_der,
        max_lifetime_s=config.agent_lifetime_s,
        max_node_lifetime_s=config.node_lifetime_s,
    )
    return CAService(settings, Publisher(issuer, crl_base_url=profile.crl_base_url))
