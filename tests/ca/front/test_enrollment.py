"""From rows to what awaits its record: who may have what, and that plain fields and bytes say the same."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.certificates.accept import AcceptedCSR, CSRBytes, accept
from ca.certificates.lint import LintError
from ca.certificates.profile import LeafPlan, Profile, build_tbs
from ca.certificates.shards import ShardNumber
from ca.front import enrollment
from ca.front.enrollment import (
    RANDOM_BYTES,
    Ask,
    Wanted,
    certificate_of,
    prepare,
    wanted_by_renewal,
    wanted_by_spawn,
    wanted_by_token,
)
from ca.items import Prepared
from ca.recorder.issuing import first_certificate
from ca.store.rows import CertificateRow, TokenRow
from ostiary.capabilities import Capabilities, parse_capabilities
from ostiary.certificate import parse_tbs, serial_hex
from ostiary.errors import BadInput, InternalFault
from ostiary.identity import identity_of, parse_agent_id, parse_subsystem
from ostiary.timestamp import EpochSeconds, epoch_seconds
from ostiary.work.answer import Recorded
from tests.support.ca_authority import AuthorityForTests
from tests.support.ca_front import CHILD, NODE, csr_of, new_key
from tests.support.certificates import AGENT, IDENTITY, NOW, URL

AUTHORITY = AuthorityForTests()
APPLICATION = IDENTITY.application
ACCEPTED: AcceptedCSR = accept(CSRBytes(csr_of(new_key())))
ALL = ("credential:use", "ledger:read", "spawn:component")
TOKEN = TokenRow(
    token_id="a" * 16,
    digest=bytes(32),
    subsystem="component-harness",
    node=NODE,
    agent=AGENT,
    capabilities="credential:use ledger:read",
    endpoints=URL,
    lifetime_s=3600,
    expires_at=EpochSeconds(600),
    address=None,
    spki_digest=None,
    bootstrap=False,
    created_at=EpochSeconds(0),
    created_by="root",
    status="open",
    spent_at=None,
    spent_serial=None,
    contested=False,
)


def granted(*texts: str) -> Capabilities:
    return parse_capabilities(texts)


def prepared_by(wanted: Wanted) -> Prepared:
    return prepare(
        AUTHORITY.profile,
        wanted,
        ACCEPTED,
        shard=ShardNumber(3),
        now=NOW,
        random_bytes=b"\x11" * RANDOM_BYTES,
    )


def row_of(prepared: Prepared) -> CertificateRow:
    return first_certificate(prepared, now_s=epoch_seconds(NOW), lifetime_s=3600)


def test_the_fields_say_what_the_bytes_say() -> None:
    prepared = prepared_by(wanted_by_token(APPLICATION, TOKEN, grant=granted(*ALL)))
    certificate = parse_tbs(prepared.tbs)
    identity = identity_of(certificate)
    assert prepared.serial == serial_hex(certificate.serial_number)
    assert (prepared.subsystem, prepared.node, prepared.agent) == (
        identity.subsystem,
        identity.node,
        identity.agent,
    )
    assert prepared.capabilities == tuple(sorted(identity.capabilities)) == ("credential:use", "ledger:read")
    assert prepared.endpoints == (URL,)
    assert prepared.not_before == int(certificate.not_valid_before_utc.timestamp())
    assert prepared.not_after == int((NOW + timedelta(hours=1)).timestamp())
    assert prepared.spki_digest == sha256(ACCEPTED.spki_der).digest()


def test_policy_that_shrank_shrinks_tokens_and_renewals() -> None:
    wanted = wanted_by_token(APPLICATION, TOKEN, grant=granted("credential:use"))
    assert wanted.identity.capabilities == {"credential:use"}
    row = replace(row_of(prepared_by(wanted)), granted="credential:use ledger:read")
    assert wanted_by_renewal(APPLICATION, row, grant=granted("ledger:read")).identity.capabilities == {
        "ledger:read"
    }


def test_a_pending_first_certificate_carries_no_capability_and_its_renewal_all() -> None:
    pending = prepared_by(wanted_by_token(APPLICATION, replace(TOKEN, bootstrap=True), grant=granted(*ALL)))
    assert pending.capabilities == ()
    assert identity_of(parse_tbs(pending.tbs)).capabilities == frozenset()
    row = replace(row_of(pending), granted=TOKEN.capabilities)
    renewed = prepared_by(wanted_by_renewal(APPLICATION, row, grant=granted(*ALL)))
    assert renewed.capabilities == ("credential:use", "ledger:read")


CAPABILITIES = st.frozensets(st.sampled_from(ALL)).map(parse_capabilities)


@given(asked=CAPABILITIES, grant=CAPABILITIES, ceiling=st.none() | CAPABILITIES)
def test_a_spawned_agent_never_gets_more_than_any_of_the_three(
    asked: Capabilities, grant: Capabilities, ceiling: Capabilities | None
) -> None:
    row = row_of(prepared_by(wanted_by_token(APPLICATION, TOKEN, grant=granted(*ALL))))
    spawner = replace(row, ceiling=None if ceiling is None else " ".join(sorted(ceiling)))
    ask = Ask(
        subsystem=parse_subsystem("component"),
        agent=parse_agent_id(CHILD),
        capabilities=asked,
        endpoints=(),
    )
    wanted = wanted_by_spawn(AUTHORITY.profile, spawner, ask, grant=grant, lifetime=timedelta(hours=1))
    assert wanted.identity.capabilities == asked & grant & (asked if ceiling is None else ceiling)
    assert wanted.identity.node == spawner.node


def test_only_services_carry_their_nodes_own_name() -> None:
    service = wanted_by_token(
        APPLICATION, replace(TOKEN, subsystem="credentials-service"), grant=granted(*ALL)
    )
    agent = wanted_by_token(APPLICATION, TOKEN, grant=granted(*ALL))
    assert service.identity.node_name_in_san
    assert not agent.identity.node_name_in_san


def test_a_node_outside_the_node_domains_is_refused() -> None:
    wanted = wanted_by_token(
        APPLICATION, replace(TOKEN, node="n1.elsewhere.example", endpoints=""), grant=granted(*ALL)
    )
    with pytest.raises(BadInput, match="none of the node domains"):
        prepared_by(wanted)


def test_bytes_that_say_something_else_never_leave(monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that drops the pending flag, say: lint reads the bytes back."""

    def build(profile: Profile, plan: LeafPlan) -> bytes:
        return build_tbs(profile, replace(plan, pending=False))

    monkeypatch.setattr(enrollment, "build_tbs", build)
    wanted = wanted_by_token(APPLICATION, replace(TOKEN, bootstrap=True), grant=granted(*ALL))
    with pytest.raises(LintError, match="capabilities"):
        prepared_by(wanted)


def test_a_record_without_a_signature_is_no_certificate() -> None:
    prepared = prepared_by(wanted_by_token(APPLICATION, TOKEN, grant=granted(*ALL)))
    with pytest.raises(InternalFault):
        certificate_of(AUTHORITY.profile, prepared, Recorded(index=1))
