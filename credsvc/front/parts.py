"""What the front's resources work with; built once per worker by credsvc/front/role.py, or by a test with
fakes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import falcon.asgi

from credsvc.front.batch import Batches
from credsvc.front.catalog import Catalog
from credsvc.front.doorkeeper import Doorkeeper, Refuser, RevocationsPort
from credsvc.front.pipeline import Pipeline
from ostiary.edge.metrics import Metrics
from ostiary.front.ledger_api import Admit


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontParts:
    """The parts, in the order of a request's way; `mount_ledger` adds the ledger's own routes."""

    doorkeeper: Doorkeeper
    refuser: Refuser
    catalog: Catalog
    pipeline: Pipeline
    batches: Batches
    revocations: RevocationsPort
    metrics: Metrics
    origin: str
    separated: bool
    mount_ledger: Callable[[falcon.asgi.App[Any, Any], Admit], None]
