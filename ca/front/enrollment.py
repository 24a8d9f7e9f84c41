"""From what somebody may have to a certificate that awaits its record: the pure middle of every enrollment.

    token + request        -> Wanted -> Prepared       (simpleenroll)
    certificate + request  -> Wanted -> Prepared       (simplereenroll)
    spawner + ask          -> Wanted -> Prepared       (a manager's request for a new agent)
    Prepared + Recorded    -> certificate

Rules:
- The contents of a certificate come from the store's rows alone; the request only proves its key and must not
  contradict them.
- A pending first certificate carries no capability. A renewal carries what its lineage was granted: it is
  pending, too, but brings nothing new.
- A prepared certificate was written twice and compared (lint) before anybody else sees it. The recorder
  decides whether it may exist.

Left to others: whether token and secret belong together, whether the certificate that asks is live
(ca/front), and the decision (ca/recorder).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256

from ca.certificates.accept import AcceptedCSR, check_names
from ca.certificates.lint import lint
from ca.certificates.profile import SERIAL_RANDOM_BYTES, Profile, build_tbs, plan_leaf, serial_number
from ca.certificates.shards import ShardNumber
from ca.items import Prepared
from ca.store.rows import CertificateRow, TokenRow
from ca.store.rows import names as names_in
from ostiary.capabilities import NO_CAPABILITIES, Capabilities, parse_capabilities
from ostiary.capability_ceilings import child_ceiling, issue
from ostiary.certificate import assemble, serial_hex
from ostiary.errors import InternalFault
from ostiary.identity import Identity, parse_endpoint
from ostiary.names import AgentID, Application, NodeName, SubSystem
from ostiary.subsystems import SERVICES
from ostiary.work.answer import Recorded

RANDOM_BYTES = SERIAL_RANDOM_BYTES
"""Random octets that `prepare` takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Whose certificate it will be, and for how long; `pending` leaves its capabilities out."""

    identity: Identity
    lifetime: timedelta
    pending: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """What a spawner asks for through its node's manager; its form is checked, not whether it may."""

    subsystem: SubSystem
    agent: AgentID
    capabilities: Capabilities
    endpoints: tuple[str, ...]


def wanted_by_token(application: Application, token: TokenRow, *, grant: Capabilities) -> Wanted:
    """What an enrollment token buys, as far as policy still grants it."""
    return Wanted(
        identity=_identity(
            application,
            subsystem=token.subsystem,
            node=token.node,
            agent=token.agent,
            endpoints=token.endpoints.split(),
            capabilities=parse_capabilities(names_in(token.capabilities)) & grant,
        ),
        lifetime=timedelta(seconds=token.lifetime_s),
        pending=token.bootstrap,
    )


def wanted_by_renewal(application: Application, current: CertificateRow, *, grant: Capabilities) -> Wanted:
    """The next generation of a certificate: with what its lineage was granted, as far as policy still grants
    it.
    """
    # `granted`, not the capabilities of the current certificate: the first one of a bootstrap carries none.
    return Wanted(
        identity=_identity(
            application,
            subsystem=current.subsystem,
            node=current.node,
            agent=current.agent,
            endpoints=current.endpoints.split(),
            capabilities=parse_capabilities(names_in(current.granted)) & grant,
        ),
        lifetime=timedelta(seconds=current.lifetime_s),
        pending=False,
    )


def wanted_by_spawn(
    profile: Profile, spawner: CertificateRow, ask: Ask, *, grant: Capabilities, lifetime: timedelta
) -> Wanted:
    """What a new agent gets: requested & grant(its sub-system) & what the spawner's ancestors leave it."""
    # As ca/recorder/decide_spawns.py does it; there it is decided, here it is planned.
    left = ask.capabilities
    if spawner.ceiling is not None:
        left = child_ceiling(
            parent_ceiling=parse_capabilities(names_in(spawner.ceiling)), asked=ask.capabilities
        )
    return Wanted(
        identity=_identity(
            profile.application,
            subsystem=ask.subsystem,
            node=spawner.node,
            agent=ask.agent,
            endpoints=list(ask.endpoints),
            capabilities=issue(requested=ask.capabilities, grant=grant, ceiling=left),
        ),
        lifetime=lifetime,
        pending=False,
    )


def _identity(
    application: Application,
    *,
    subsystem: str,
    node: str,
    agent: str,
    endpoints: list[str],
    capabilities: Capabilities,
) -> Identity:
    return Identity(
        application=application,
        subsystem=SubSystem(subsystem),
        node=NodeName(node),
        agent=AgentID(agent),
        endpoints=tuple(parse_endpoint(url) for url in endpoints),
        capabilities=capabilities,
        node_name_in_san=subsystem in SERVICES,
    )


def prepare(
    profile: Profile,
    wanted: Wanted,
    accepted: AcceptedCSR,
    *,
    shard: ShardNumber,
    now: datetime,
    random_bytes: bytes,
) -> Prepared:
    """`prepare_for_key` for the key of a request, which must not contradict the identity (BadInput)."""
    check_names(accepted, wanted.identity)
    return prepare_for_key(
        profile, wanted, accepted.spki_der, shard=shard, now=now, random_bytes=random_bytes
    )


def prepare_for_key(
    profile: Profile,
    wanted: Wanted,
    spki_der: bytes,
    *,
    shard: ShardNumber,
    now: datetime,
    random_bytes: bytes,
) -> Prepared:
    """Plan, write and lint a certificate; `random_bytes` are RANDOM_BYTES octets.

    1. Plan it.
    2. Write its to-be-signed bytes.
    3. Write the plan a second time and compare.
    4. Say in plain fields what the bytes say, for the recorder.
    Raises BadInput (the identity does not fit the profile), LintError (our fault).
    """
    # 1.
    plan = plan_leaf(
        profile,
        wanted.identity,
        spki_der=spki_der,
        serial_number=serial_number(random_bytes),
        now=now,
        lifetime=wanted.lifetime,
        shard=shard,
        pending=wanted.pending,
    )
    # 2. and 3.
    tbs = build_tbs(profile, plan)
    lint(tbs, profile, plan)
    # 4.
    carried = NO_CAPABILITIES if wanted.pending else wanted.identity.capabilities
    return Prepared(
        serial=serial_hex(plan.serial_number),
        subsystem=wanted.identity.subsystem,
        node=wanted.identity.node,
        agent=wanted.identity.agent,
        capabilities=tuple(sorted(carried)),
        endpoints=tuple(str(endpoint) for endpoint in wanted.identity.endpoints),
        not_before=int(plan.not_before.timestamp()),
        not_after=int(plan.not_after.timestamp()),
        shard=shard,
        spki_digest=sha256(spki_der).digest(),
        tbs=tbs,
    )


def certificate_of(profile: Profile, prepared: Prepared, recorded: Recorded) -> bytes:
    """The certificate (DER) that the keyholder signed: the prepared one, or an earlier one whose answer was
    lost.
    """
    # `substitute` has the to-be-signed bytes of the earlier one; the signature is over those.
    if not recorded.output:
        raise InternalFault(f"entry {recorded.index} came back without a signature")
    return assemble(recorded.substitute or prepared.tbs, profile.signature_algorithm_der, recorded.output)
