"""Certificates as operators see and end them: by state, by serial number, by the fingerprint that was
compared.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from ca.admin.certificate_verbs import parse_fingerprint
from ca.items import ConfirmNode
from ostiary.certificate import assemble
from ostiary.errors import BadInput, Forbidden, NotFound
from tests.support.ca_operator import NODE, SIGNATURE, OperatedCA

DIGEST = hashlib.sha256(b"certificate").hexdigest()


@pytest.fixture
def ca(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatedCA]:
    made = OperatedCA(tmp_path_factory.mktemp("operated"))
    yield made
    made.close()


def pending(ca: OperatedCA, node: str = NODE) -> str:
    tokens = ca.call("bootstrap", node=node)["tokens"]
    return ca.redeem(tokens["node-controller"], "node-controller", node=node)


def fingerprint(ca: OperatedCA, serial: str) -> str:
    tbs = b"tbs of %d" % int(serial, 16)
    der = assemble(tbs, ca.home.profile().signature_algorithm_der, SIGNATURE)
    return hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize(
    "text",
    [
        DIGEST,
        DIGEST.upper(),
        ":".join(DIGEST[i : i + 2] for i in range(0, 64, 2)),
        f"sha256 Fingerprint={':'.join(DIGEST[i : i + 2].upper() for i in range(0, 64, 2))}\n",
    ],
)
def test_a_fingerprint_is_read_as_openssl_prints_it(text: str) -> None:
    assert parse_fingerprint(text).hex() == DIGEST


@pytest.mark.parametrize("text", ["", DIGEST[:-2], f"{DIGEST}00", "z" * 64, DIGEST[:40]])
def test_what_is_no_fingerprint_is_named(text: str) -> None:
    with pytest.raises(BadInput) as refused:
        parse_fingerprint(text)
    assert refused.value.field == "fingerprint"


def test_a_pending_certificate_is_confirmed_by_its_fingerprint(ca: OperatedCA) -> None:
    serial = pending(ca)
    done = ca.call("confirm", node=NODE, fingerprint=fingerprint(ca, serial))
    assert (done["serial_number"], done["status"]) == (serial, "active")
    assert isinstance(ca.recorder.items[-1][1], ConfirmNode)
    assert [row["serial_number"] for row in ca.call("certificate.list", status="active")] == [serial]


def test_another_nodes_fingerprint_confirms_nothing(ca: OperatedCA) -> None:
    serial = pending(ca)
    other = pending(ca, "n2.nodes.shop.example")
    with pytest.raises(NotFound):
        ca.call("confirm", node=NODE, fingerprint=fingerprint(ca, other))
    assert {row["serial_number"] for row in ca.call("certificate.list", status="pending")} == {serial, other}


def test_certificates_are_listed_by_state_and_by_name(ca: OperatedCA) -> None:
    active = ca.redeem(ca.mint(), "component-harness")
    gone = ca.redeem(ca.mint(), "component-harness", key=2)
    waiting = pending(ca)
    ca.call("certificate.revoke", serial=gone, reason="superseded")

    def listed(**filters: str) -> set[str]:
        return {row["serial_number"] for row in ca.call("certificate.list", **filters)}

    assert listed() == {active, gone, waiting}
    assert listed(status="active") == {active}
    assert listed(status="revoked") == {gone}
    assert listed(status="pending") == {waiting}
    assert listed(status="expired") == set()
    assert listed(subsystem="node-controller") == {waiting}
    assert listed(node="n9.nodes.shop.example") == set()
    with pytest.raises(BadInput) as refused:
        listed(status="lost")
    assert refused.value.field == "status"


def test_all_that_is_known_is_shown_and_null_where_there_is_nothing(ca: OperatedCA) -> None:
    token = ca.mint()
    serial = ca.redeem(token, "component-harness")
    # The stand-in's bytes are no certificate, so it is shown as one whose signature is on its way.
    with ca.recorder.engine.begin() as tx:
        tx.exec_driver_sql("UPDATE certificates SET signature = NULL")
    shown = ca.call("certificate.show", serial=serial)
    assert (shown["token"], shown["lineage"], shown["activated_by"]) == (token["id"], serial, "issue")
    nothing = ("parent", "revoked_at", "reason", "fingerprint", "certificate")
    assert {name: shown[name] for name in nothing} == dict.fromkeys(nothing)


def test_a_revoked_certificate_says_when_and_why_and_is_not_revoked_again(ca: OperatedCA) -> None:
    serial = ca.redeem(ca.mint(), "component-harness")
    done = ca.call("certificate.revoke", serial=serial, reason="keyCompromise")
    assert (done["status"], done["reason"]) == ("revoked", "keyCompromise")
    with pytest.raises(Forbidden) as refused:
        ca.call("certificate.revoke", serial=serial)
    assert refused.value.rule == "certificate-revoked"


@pytest.mark.parametrize("verb", ["certificate.show", "certificate.revoke"])
def test_a_serial_number_that_is_none_is_named(ca: OperatedCA, verb: str) -> None:
    with pytest.raises(BadInput) as refused:
        ca.call(verb, serial="00FF")
    assert refused.value.field == "serial_number"


def test_a_certificate_that_was_never_issued_is_not_found(ca: OperatedCA) -> None:
    with pytest.raises(NotFound):
        ca.call("certificate.show", serial="77")
