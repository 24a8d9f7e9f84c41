"""The template takes what pyca/cryptography's builder writes for a leaf, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ca.certificates.leaf_template import Leaf, leaf_template
from ca.certificates.profile import LeafPlan
from ostiary import der
from ostiary.capabilities import NO_CAPABILITIES, parse_capabilities
from ostiary.certificate import ECDSA_SHA384, PublicKey
from ostiary.identity import parse_agent_id, parse_node, parse_subsystem
from tests.support.ca_authority import CONFIG, LEAF_KEY, AuthorityForTests
from tests.support.certificates import IDENTITY
from tests.support.independent_certificates import plans, tbs_by_pyca

CA = AuthorityForTests()
TEMPLATE = CA.profile.template
PLAN = CA.plan()
TBS = tbs_by_pyca(CA, PLAN, LEAF_KEY.public_key())


def leaf_of(plan: LeafPlan) -> Leaf:
    return Leaf(
        identity=plan.identity,
        capabilities=NO_CAPABILITIES if plan.pending else plan.identity.capabilities,
        serial_number=plan.serial_number,
        not_before=int(plan.not_before.timestamp()),
        not_after=int(plan.not_after.timestamp()),
        shard=plan.shard,
    )


LEAF = leaf_of(PLAN)


@given(plans(CA))
def test_it_takes_what_pycas_builder_writes_and_finds_the_key(planned: tuple[LeafPlan, PublicKey]) -> None:
    plan, key = planned
    assert TEMPLATE.public_key_in(tbs_by_pyca(CA, plan, key), leaf_of(plan)) == plan.spki_der


def other(**changes: Any) -> dict[str, Any]:
    return {"identity": dataclasses.replace(IDENTITY, **changes)}


@pytest.mark.parametrize(
    "changes",
    [
        other(agent=parse_agent_id("00000000-0000-4000-8000-000000000000"), endpoints=()),
        other(node=parse_node("n2.nodes.shop.example"), endpoints=()),
        other(subsystem=parse_subsystem("other")),
        other(endpoints=()),
        other(node_name_in_san=True),
        {"capabilities": parse_capabilities(["credential:use"])},
        {"capabilities": NO_CAPABILITIES},
        {"serial_number": LEAF.serial_number + 1},
        {"serial_number": -LEAF.serial_number},
        {"not_before": LEAF.not_before + 1},
        {"not_after": LEAF.not_after - 1},
        {"shard": LEAF.shard + 1},
    ],
    ids="".join,  # a set prints in another order in each process
)
def test_another_leaf_is_another(changes: dict[str, Any]) -> None:
    assert TEMPLATE.public_key_in(TBS, LEAF) == PLAN.spki_der
    assert TEMPLATE.public_key_in(TBS, dataclasses.replace(LEAF, **changes)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"issuer_der": CA.root.subject.public_bytes()},
        {"key_identifier": bytes(20)},
        {"signature_algorithm_der": ECDSA_SHA384},
        {"ocsp_url": "http://elsewhere.example/ocsp"},
        {"ca_issuers_url": "http://elsewhere.example/ca"},
        {"crl_base_url": "http://elsewhere.example/crl/"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_another_issuing_key_has_another_template(changes: dict[str, Any]) -> None:
    own: dict[str, Any] = {
        "issuer_der": CA.profile.issuer_subject_der,
        "key_identifier": CA.profile.issuer_key_identifier,
        "signature_algorithm_der": CA.profile.signature_algorithm_der,
        "ocsp_url": CONFIG.ocsp_url,
        "ca_issuers_url": CONFIG.ca_issuers_url,
        "crl_base_url": CONFIG.crl_base_url,
    }
    assert leaf_template(**own) == TEMPLATE
    assert leaf_template(**{**own, **changes}).public_key_in(TBS, LEAF) is None


def test_no_changed_octet_is_the_same_leaf() -> None:
    """Within the key it may be one with another key, which whoever asks must know; anywhere else it is no
    leaf of ours.
    """
    start = TBS.index(PLAN.spki_der)
    key = range(start, start + len(PLAN.spki_der))
    for position in range(len(TBS)):
        for bit in range(8):
            broken = bytearray(TBS)
            broken[position] ^= 1 << bit
            found = TEMPLATE.public_key_in(bytes(broken), LEAF)
            assert found is None or (position in key and found == broken[key.start : key.stop]), position


@pytest.mark.parametrize(
    "behind", [(der.null(),), (der.bit_string(b"x"),), ()], ids=["NULL", "more bits", "unused bits"]
)
def test_a_key_that_is_no_subject_public_key_info_is_not_taken(behind: tuple[bytes, ...]) -> None:
    _, algorithm, _ = der.read(PLAN.spki_der)
    members = [item for _, item in der.items(PLAN.spki_der[algorithm:])]
    if not behind:
        members[1] = der.bit_string(der.expect(members[1], der.BIT_STRING, what="key")[1:], unused_bits=1)
    fields = [item for _, item in der.items(der.expect(TBS, der.SEQUENCE, what="TBS"))]
    assert fields[6] == PLAN.spki_der
    fields[6] = der.sequence(*members, *behind)
    assert TEMPLATE.public_key_in(der.sequence(*fields), LEAF) is None


@given(st.binary(max_size=40))
def test_other_bytes_are_not_taken(data: bytes) -> None:
    for tbs in (data, TBS + data[:1] + b"\x00", TBS[: len(data)], TBS[: -1 - len(data)]):
        assert TEMPLATE.public_key_in(tbs, LEAF) is None
