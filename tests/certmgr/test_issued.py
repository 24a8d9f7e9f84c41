"""What an authority returned: accepted when it is what was asked for, refused when one thing differs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from certmgr.issued import check_issued
from certmgr.keys import generate
from ostiary.capabilities import parse_capabilities
from ostiary.errors import Forbidden, InternalFault
from ostiary.identity import parse_node, parse_subsystem
from tests.support.ca_authority import AuthorityForTests
from tests.support.certificates import IDENTITY, NOW
from tests.support.manager_records import ENDPOINTS, NAMES, authority, leaf, wanted


def check(certificates: list[object], asked: object = None, days: int = 0) -> object:
    return check_issued(
        certificates,  # type: ignore[arg-type] # what tests hand in
        root=authority().root,
        wanted=asked or wanted(),  # type: ignore[arg-type] # the same
        now=NOW + timedelta(days=days),
    )


def test_the_requested_certificate_is_accepted_in_any_order() -> None:
    ca, own = authority(), leaf()
    for found in (
        [own, ca.issuing],
        [ca.issuing, own],
        [ca.root, ca.issuing, own],
    ):
        issued = check_issued(found, root=ca.root, wanted=wanted(), now=NOW)
        assert issued.chain == (own, ca.issuing)
        assert issued.identity == IDENTITY
        assert issued.certificate == own


def test_what_is_kept_are_certificates_that_nobody_has_read() -> None:
    """An extension that was read is kept in that very object by pyca."""
    found = [leaf(), authority().issuing]
    kept = check_issued(found, root=authority().root, wanted=wanted(), now=NOW).chain
    assert [each is given for each, given in zip(kept, found, strict=True)] == [False, False]


def test_a_certificate_for_another_key_is_refused() -> None:
    with pytest.raises(InternalFault, match="no certificate for our key"):
        check([leaf(), authority().issuing], wanted(generate(NAMES)))


def test_a_chain_without_its_middle_is_refused() -> None:
    with pytest.raises(InternalFault, match="do not lead to the pinned root"):
        check([leaf()])


def test_a_chain_of_another_authority_is_refused() -> None:
    """Same names everywhere, other keys."""
    other = AuthorityForTests(now=NOW)
    root = x509.CertificateBuilder(
        issuer_name=authority().root.subject,
        subject_name=authority().root.subject,
        public_key=other.root_key.public_key(),
        serial_number=1,
        not_valid_before=NOW,
        not_valid_after=NOW + timedelta(days=1),
        extensions=list(authority().root.extensions)[:1],
    ).sign(other.root_key, hashes.SHA256())
    with pytest.raises(Forbidden) as caught:
        check_issued([leaf(), authority().issuing], root=root, wanted=wanted(), now=NOW)
    assert caught.value.rule == "pinned-root"


def test_a_certificate_that_is_not_valid_now_is_refused() -> None:
    with pytest.raises(Forbidden) as caught:
        check([leaf(), authority().issuing], days=1)
    assert caught.value.rule == "validity"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"node": parse_node("n2.nodes.shop.example"), "endpoints": ()}, "certified node"),
        ({"subsystem": parse_subsystem("auditor")}, "certified subsystem"),
        ({"endpoints": ()}, "other endpoints"),
        ({"capabilities": parse_capabilities(["enroll:node"])}, "capabilities that were not requested"),
    ],
)
def test_other_names_endpoints_and_capabilities_are_refused(change: dict[str, object], said: str) -> None:
    other = replace(IDENTITY, **change)  # type: ignore[arg-type] # one field at a time
    with pytest.raises(InternalFault, match=said):
        check([leaf(other), authority().issuing])


def test_fewer_capabilities_and_what_the_token_fixed_are_accepted() -> None:
    less = replace(IDENTITY, capabilities=frozenset())
    check([leaf(less), authority().issuing])
    check([leaf(), authority().issuing], replace(wanted(), endpoints=None, capabilities=None))
    check([leaf(), authority().issuing], replace(wanted(), endpoints=tuple(reversed(ENDPOINTS))))
