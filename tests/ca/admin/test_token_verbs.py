"""Tokens as operators make and see them: shown once, recorded by digest, bound to what was asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from ca.admin.token_verbs import place_endpoints
from ca.items import MintToken, VoidToken
from ostiary.errors import BadInput, Forbidden
from ostiary.names import parse_node
from ostiary.token import parse_token
from tests.support.ca_front import csr_of, new_key
from tests.support.ca_operator import NODE, OperatedCA

AGENT = "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"
HARNESS = {"subsystem": "component-harness", "node": NODE}


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatedCA]:
    made = OperatedCA(tmp_path_factory.mktemp("operated"))
    yield made
    made.close()


def minted(ca: OperatedCA) -> MintToken:
    item = ca.recorder.items[-1][1]
    assert isinstance(item, MintToken)
    return item


def test_a_token_leaves_once_and_only_its_digest_is_recorded(ca: OperatedCA) -> None:
    made = ca.mint(capabilities=["credential:use"], ttl_s=60)
    token = parse_token(made["token"])
    item = minted(ca)
    assert (made["id"], item.token_digest, item.operator.name) == (token.id, token.digest, "root")
    assert item.capabilities == ("credential:use",)
    listed = json.dumps(ca.call("token.list"))
    assert made["id"] in listed
    assert made["token"] not in listed
    assert token.digest.hex() not in listed


def test_what_was_not_asked_for_is_none_in_the_store_and_null_outside(ca: OperatedCA) -> None:
    made = ca.mint()
    assert (minted(ca).address, minted(ca).spki_digest) == ("", b"")
    (row,) = [each for each in ca.call("token.list") if each["id"] == made["id"]]
    assert (row["address"], row["serial_number"], row["status"]) == (None, None, "open")


def test_a_token_is_bound_to_address_and_key(ca: OperatedCA) -> None:
    csr = csr_of(new_key())
    ca.mint(address="::ffff:192.0.2.1", csr=msgspec.to_builtins(csr))
    assert minted(ca).address == "192.0.2.1"
    assert len(minted(ca).spki_digest) == 32


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"node": "n1.elsewhere.example"}, "node"),
        ({"subsystem": "Component"}, "subsystem"),
        ({"address": "169.254.169.254"}, "address"),
        ({"address": "192.0.2.1:7443"}, "address"),  # a port is for bootstrap tokens
        ({"csr": "AAAA"}, "csr"),
        ({"ttl_s": 0}, "ttl_s"),
        ({"color": "red"}, "color"),
        ({"endpoints": ["https+tcp://n2.nodes.shop.example:1"]}, "endpoints"),
    ],
)
def test_one_thing_wrong_is_named_and_nothing_recorded(
    ca: OperatedCA, changed: dict[str, Any], field: str
) -> None:
    before = len(ca.recorder.items)
    with pytest.raises(BadInput) as refused:
        ca.mint(**changed)
    assert refused.value.field == field
    assert len(ca.recorder.items) == before


def test_what_policy_does_not_grant_is_the_recorders_to_refuse(ca: OperatedCA) -> None:
    with pytest.raises(Forbidden) as refused:
        ca.mint(capabilities=["enroll:node"])
    assert refused.value.rule == "grant"


def test_a_void_token_is_void(ca: OperatedCA) -> None:
    made = ca.mint()
    assert ca.call("token.revoke", id=made["id"])["status"] == "void"
    assert isinstance(ca.recorder.items[-1][1], VoidToken)
    (row,) = [each for each in ca.call("token.list") if each["id"] == made["id"]]
    assert row["status"] == "void"


def test_a_spent_token_names_what_it_bought(ca: OperatedCA) -> None:
    made = ca.mint()
    serial = ca.redeem(made, "component-harness")
    (row,) = [each for each in ca.call("token.list") if each["id"] == made["id"]]
    assert (row["status"], row["serial_number"]) == ("spent", serial)


def test_the_newest_tokens_come_first_and_no_more_than_asked_for(ca: OperatedCA) -> None:
    ca.mint()
    assert len(ca.call("token.list", limit=1)) == 1
    with pytest.raises(BadInput):
        ca.call("token.list", limit=501)


def test_a_bootstrap_document_has_two_tokens_and_what_is_public(ca: OperatedCA) -> None:
    node = "n2.nodes.shop.example"
    document = ca.call("bootstrap", node=node, address="192.0.2.7")
    assert set(document["tokens"]) == {"certificate-manager", "node-controller"}
    assert document["ca"] == {"url": "https://127.0.0.1:8443", "status_url": "http://127.0.0.1:8080"}
    assert document["root"].startswith("-----BEGIN CERTIFICATE-----")
    assert document["ledgers"][0]["vkey"] == str(ca.home.verifier())
    items = [each for _, each in ca.recorder.items if isinstance(each, MintToken) and each.node == node]
    assert [each.bootstrap for each in items] == [True, True]
    assert {each.address for each in items} == {"192.0.2.7:7443"}
    manager = next(each for each in items if each.subsystem == "certificate-manager")
    assert manager.endpoints == (f"https+tcp://{manager.agent}.{node}:7443",)
    assert manager.lifetime_s == 86400


def test_without_an_address_the_manager_listens_on_the_configured_port(ca: OperatedCA) -> None:
    node = "n3.nodes.shop.example"
    ca.call("bootstrap", node=node)
    items = [each for _, each in ca.recorder.items if isinstance(each, MintToken) and each.node == node]
    assert {each.address for each in items} == {""}
    assert any(each.endpoints and each.endpoints[0].endswith(":7443") for each in items)


@pytest.mark.parametrize(
    ("urls", "agent"),
    [
        ([f"https+tcp://{NODE}:1"], AGENT),
        ([f"https+tcp://{AGENT}.{NODE}:1"], ""),
        ([f"https+tcp://{AGENT}.{NODE}:1", f"https+tcp://{NODE}:1"], AGENT),
    ],
)
def test_the_node_alone_stands_for_its_agent(urls: list[str], agent: str) -> None:
    assert place_endpoints(urls, parse_node(NODE), agent) == (AGENT, (f"https+tcp://{AGENT}.{NODE}:1",))


def test_without_an_agent_there_is_a_new_one_each_time() -> None:
    first, second = (place_endpoints([], parse_node(NODE), "")[0] for _ in range(2))
    assert first != second


def test_an_endpoint_of_another_agent_is_refused() -> None:
    other = f"https+tcp://00000000-0000-4000-8000-000000000001.{NODE}:1"
    with pytest.raises(BadInput) as refused:
        place_endpoints([other], parse_node(NODE), AGENT)
    assert refused.value.field == "endpoints"
