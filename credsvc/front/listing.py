"""What an agent may use: credentials with the operations that policy could allow it.

Rules:
- The first decision of a signature's life decides (`preview`): what is listed may still be refused for what
  it asks.
- Decisions are remembered by the policies and by what rules read of agent and credential
  (`credsvc.policy.judge`), never by the clock: credentials that rules do not tell apart cost one decision.
- A page takes many decisions. After `SLICE_S` of them the event loop's other work has its turn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from credsvc.front.catalog import Subject
from credsvc.policy.cedar import AgentEntity
from credsvc.policy.decision import Denial
from credsvc.policy.schema import action_name

SLICE_S: Final = 0.002


class CredentialSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A credential that the peer may use in some way; nothing confidential is known here."""

    name: str
    module: str
    version: int
    operations: list[str]
    shareable: Mapping[str, str]


async def list_usable(
    agent: AgentEntity, subjects: Iterable[Subject], *, monotonic_s: Callable[[], float]
) -> list[CredentialSummary]:
    """What the agent sees of these credentials, in their order."""
    shown = []
    until_s = monotonic_s() + SLICE_S
    for subject in subjects:
        summary = _summary(agent, subject)
        if summary is not None:
            shown.append(summary)
        if monotonic_s() >= until_s:
            await asyncio.sleep(0)
            until_s = monotonic_s() + SLICE_S
    return shown


def _summary(agent: AgentEntity, subject: Subject) -> CredentialSummary | None:
    """None where policy allows the agent no operation in any context."""
    credential, manifest = subject.credential, subject.module.manifest
    if credential.disabled:
        return None
    operations = [
        operation
        for operation in manifest.operations
        if not isinstance(
            subject.judge.preview(agent, action_name(manifest.name, operation), credential.entity), Denial
        )
    ]
    if not operations:
        return None
    return CredentialSummary(
        name=credential.entity.name,
        module=manifest.name,
        version=credential.version,
        operations=operations,
        shareable=credential.shareable,
    )
