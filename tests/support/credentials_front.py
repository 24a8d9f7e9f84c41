"""A front without a world: the shipped modules in plain Python, a store in memory, a recorder that believes;
right by default.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

import msgspec

from credsvc.formula.manifest_toml import parse_manifest
from credsvc.formula.selftest import build_plain_runner
from credsvc.front.batch import Batches
from credsvc.front.catalog import ActiveModule, KnownCredential, Subject
from credsvc.front.doorkeeper import Refuser
from credsvc.front.pipeline import Pipeline
from credsvc.front.requests import SignRequest
from credsvc.front.stages import STAGES, Explained, Ports, Released, Stages
from credsvc.items import Use
from credsvc.names import CredentialName, OperationName
from credsvc.policy.cedar import AgentEntity, CredentialEntity, PolicySet
from credsvc.policy.judge import Judge
from credsvc.policy.schema import build_schema
from credsvc.sandbox.client.decode import HoleProposal
from credsvc.sandbox.client.faults import Fault, SandboxFault, fault
from credsvc.sandbox.client.pool import LoadedModule, ModuleDigest
from ostiary.edge.metrics import Metrics
from ostiary.errors import BadInput, Forbidden
from ostiary.work.answer import Recorded
from ostiary.work.item import Item, Peer
from ostiary.work.reports import Refuse
from tests.support.repository import ROOT

LIBRARY = ROOT / "modules"
NOW = dt.datetime(2026, 11, 21, 12, 0, tzinfo=dt.UTC)
PEER = Peer(
    serial="0a",
    subsystem="component",
    node="n1.nodes.shop.example",
    agent="5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10",
)
AGENT = AgentEntity(
    agent=PEER.agent,
    subsystem=PEER.subsystem,
    node=PEER.node,
    capabilities=frozenset({"credential:use"}),
    active=True,
    revocation_age_s=0,
)
POLICY = """
@id("components-read-billing")
permit(principal in SubSystem::"component", action == Action::"aws-sigv4/sign", resource in Label::"billing")
when { context.service == "s3" && context.method == "GET" };
"""
REQUEST: dict[str, Any] = {
    "method": "GET",
    "url": "https://billing.s3.eu-north-1.amazonaws.com/2026/11?x=1",
    "headers": {},
    "region": "eu-north-1",
    "service": "s3",
}


def active_module(name: str) -> ActiveModule:
    source = (LIBRARY / name / "module.py").read_text("utf-8")
    manifest = parse_manifest((LIBRARY / name / "manifest.toml").read_bytes())
    return ActiveModule(manifest=manifest, code=LoadedModule(digest=ModuleDigest("c" * 64), source=source))


AWS = active_module("aws-sigv4")


def subject(
    *, policy: str = POLICY, disabled: bool = False, guessable: bool = False, **ceiling: tuple[str, ...]
) -> Subject:
    """A credential of aws-sigv4; `guessable` as if a human's password were behind it."""
    entity = CredentialEntity(
        name="billing-aws", module="aws-sigv4", owner="component", labels=("billing",), guessable=False
    )
    actions = frozenset({"aws-sigv4/sign"}) if guessable else frozenset[str]()
    policies = PolicySet(policy, replace(build_schema([AWS.manifest]), guessable=actions))
    return Subject(
        credential=KnownCredential(
            version=3,
            entity=entity,
            shareable={"access_key_id": "AKIDEXAMPLE"},
            ceiling=ceiling,
            disabled=disabled,
        ),
        module=AWS,
        judge=Judge(policies, digest=policies.digest),
    )


def sign_request(*, agent: AgentEntity = AGENT, operation: str = "sign", **changed: Any) -> SignRequest:
    return SignRequest(
        peer=PEER,
        agent=agent,
        credential=CredentialName("billing-aws"),
        operation=OperationName(operation),
        request={**REQUEST, **changed},
    )


class FixedClock:
    def now(self) -> dt.datetime:
        return NOW

    def epoch_ms(self) -> int:
        return int(NOW.timestamp()) * 1000

    def monotonic_ns(self) -> int:
        return 0


@dataclass
class MemoryCatalog:
    """`successor` is what the next look finds in the store; `just_read` makes it one that `has_moved` would
    not take.
    """

    subject: Subject | None
    successor: Subject | None = None
    just_read: bool = False

    async def find(self, credential: str) -> Subject | None:
        return self.subject if credential == "billing-aws" else None

    async def has_moved(self, credential: str, seen: Subject | None) -> bool:
        if not self.just_read:
            await self.look_again(credential)
        return self.subject is not seen

    async def look_again(self, credential: str) -> None:
        self.subject, self.successor = self.successor or self.subject, None


@dataclass
class PlainSandbox:
    """Runs the module without a sandbox; `filled` replaces holes afterwards, as hostile code could."""

    filled: Mapping[str, Any] = field(default_factory=dict)
    runs: int = 0
    turns: int = 0

    async def run(
        self, module: LoadedModule, entry: str, arguments: Mapping[str, Any], deadline_s: float
    ) -> HoleProposal:
        self.runs += 1
        formula, holes = build_plain_runner(module.source)(
            entry, arguments["request"], arguments["credential"], arguments["clock"]
        )
        return HoleProposal(formula=formula, holes=cast("dict[str, Any]", {**holes, **self.filled}))

    async def run_many(
        self, module: LoadedModule, entry: str, arguments: Sequence[Mapping[str, Any]], deadline_s: float
    ) -> list[HoleProposal | SandboxFault]:
        self.turns += 1
        results: list[HoleProposal | SandboxFault] = []
        for each in arguments:
            try:
                results.append(await self.run(module, entry, each, deadline_s))
            except BadInput:
                results.append(fault(Fault.MODULE_RAISED))
        return results


@dataclass
class MemoryRecorder:
    """Keeps items; refuses as the real one does; `stale` is how many uses it calls stale first."""

    items: list[Item] = field(default_factory=list)
    stale: int = 0

    async def submit(self, item: Item) -> Recorded:
        self.items.append(item)
        if isinstance(item, Refuse):
            raise Forbidden(item.reason, rule=item.rule)
        if isinstance(item, Use) and self.stale:
            self.stale -= 1
            raise Forbidden("the policies were replaced meanwhile: try again", rule="stale-policy")
        return Recorded(
            index=len(self.items) - 1, output=msgspec.msgpack.encode({"header.authorization": "AWS4 ..."})
        )


@dataclass
class World:
    """A pipeline with its ports in hand."""

    catalog: MemoryCatalog
    sandbox: PlainSandbox
    recorder: MemoryRecorder
    pipeline: Pipeline
    batches: Batches
    metrics: Metrics

    def sign(self, request: SignRequest) -> Released:
        """Sign on a loop of its own."""
        return asyncio.run(self.pipeline.sign(request))

    def explain(self, request: SignRequest) -> Explained:
        """Explain on a loop of its own."""
        return asyncio.run(self.pipeline.explain(request))


def world(about: Subject | None = None, *, filled: Mapping[str, Any] | None = None, stale: int = 0) -> World:
    catalog = MemoryCatalog(about or subject())
    sandbox = PlainSandbox(filled or {})
    recorder = MemoryRecorder(stale=stale)
    metrics = Metrics(stages=STAGES, counters=("denied",), processes=1)
    ports = Ports(
        catalog=catalog,
        sandbox=sandbox,
        recorder=recorder,
        refuser=Refuser(recorder, FixedClock()),
        clock=FixedClock(),
        random=lambda count: b"\x01" * count,
        metrics=metrics,
    )
    stages = Stages(ports)
    batches = Batches(stages, monotonic_s=lambda: 0.0)
    return World(catalog, sandbox, recorder, Pipeline(stages), batches, metrics)
