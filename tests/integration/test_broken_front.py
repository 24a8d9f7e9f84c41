"""A CA whose front was compromised: a thief in it gets nothing from the recorder beyond tokens and lineages.

Each bad case differs from the good one in one respect. Every decision and act is in the proven ledger, under
the digest of the request.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from ca import items
from ca.certificates.shards import ShardNumber
from ca.front.enrollment import RANDOM_BYTES, Wanted, prepare_for_key
from ca.home import CAHome
from ostiary.capabilities import parse_capabilities
from ostiary.certificate import assemble, parse_tbs, spki_der
from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.identity import Identity, parse_endpoint
from ostiary.names import parse_agent_id, parse_application, parse_node, parse_subsystem
from ostiary.token import parse_token
from ostiary.work.answer import Recorded, Refused
from ostiary.work.item import Item, Operator, Peer, item_digest
from ostiary.work.item_encoding import encode_item
from ostiary.work.reports import Alarm
from tests.support.ca_service import APPLICATION, NODE, Agent, RunningCA, new_key
from tests.support.inside_role import ThiefInRole
from tests.support.killing import Follower
from tests.support.need import require_root

pytestmark = pytest.mark.slow
OTHER_NODE = "n2.nodes.shop.example"
AGENT = "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"
ENDPOINT = f"https+tcp://{AGENT}.{NODE}:8443"


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A running CA, the thief in its front, and who reads the ledger."""

    ca: RunningCA
    home: CAHome
    users: RoleUsers
    thief: ThiefInRole
    follower: Follower

    def ask(self, item: Item) -> Recorded | Refused:
        """Say something as the front; what came of it is in the ledger if anything did."""
        answer = self.thief.submit(self.home.places.channel("front"), item)
        if answer.index is not None:
            self.follower.read_through(answer.index)
            entry = self.follower.entries[answer.index]
            assert entry["act"] == item_digest(encode_item(item)).hex()
            was_denied = isinstance(answer, Refused) and answer.by == "recorder"
            assert entry["decision"] == ("denied" if was_denied else "authorized")
        return answer

    def refused(self, item: Item) -> str:
        """The rule by which it is refused."""
        answer = self.ask(item)
        assert isinstance(answer, Refused), "the thief got it"
        return answer.rule

    def prepared(
        self, key: ec.EllipticCurvePrivateKey, *, lifetime_s: int = 7200, **says: Any
    ) -> items.Prepared:
        """A certificate for a harness on NODE, but for what is said otherwise."""
        identity = Identity(
            application=parse_application(APPLICATION),
            subsystem=parse_subsystem(says.get("subsystem", "component-harness")),
            node=parse_node(says.get("node", NODE)),
            agent=parse_agent_id(says.get("agent", AGENT)),
            endpoints=tuple(parse_endpoint(url) for url in says.get("endpoints", ())),
            capabilities=parse_capabilities(says.get("capabilities", ("credential:use",))),
            node_name_in_san=says.get("named_by_node", False),
        )
        return prepare_for_key(
            self.home.profile(),
            Wanted(identity=identity, lifetime=timedelta(seconds=lifetime_s), pending=False),
            spki_der(key.public_key()),
            shard=ShardNumber(1),
            now=datetime.now(UTC),
            random_bytes=secrets.token_bytes(RANDOM_BYTES),
        )

    def redeem(self, prepared: items.Prepared, *, token: str | None = None, **says: Any) -> items.Redeem:
        """Spend a token, made for AGENT on NODE where none is given."""
        text = (
            token
            or self.ca.token("component-harness", capabilities=("credential:use",), agent=AGENT)["token"]
        )
        made = parse_token(text)
        item = items.Redeem(
            token_id=made.id, token_digest=made.digest, address="127.0.0.1", certificate=prepared
        )
        return msgspec.structs.replace(item, **says)


@pytest.fixture(scope="module")
def scene(shared_ca: RunningCA) -> Iterator[Scene]:
    ca, home = shared_ca, CAHome(ServiceHome(shared_ca.home / "ca"))
    users = RoleUsers(base=None)
    if home.places.channel("front").stat().st_uid != ca.home.stat().st_uid:
        users = RoleUsers(base=home.config().role_uid_base)
    with ThiefInRole(users, RoleName.FRONT) as thief:
        yield Scene(ca=ca, home=home, users=users, thief=thief, follower=Follower(home.places, service="ca"))


def test_what_a_front_may_ask_it_gets_and_it_is_recorded(scene: Scene) -> None:
    key = new_key()
    prepared = scene.prepared(key)
    done = scene.ask(scene.redeem(prepared))
    assert isinstance(done, Recorded)
    der = assemble(prepared.tbs, scene.home.profile().signature_algorithm_der, done.output)
    x509.load_der_x509_certificate(der).verify_directly_issued_by(scene.home.issuing())


@pytest.mark.parametrize(
    ("says", "rule"),
    [
        ({"node": OTHER_NODE}, "token-other-node"),
        ({"subsystem": "component"}, "token-other-subsystem"),
        ({"agent": "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a11"}, "token-other-agent"),
        ({"capabilities": ("credential:use", "ledger:read")}, "token-capabilities"),
        ({"capabilities": ("credential:use", "enroll:node")}, "token-capabilities"),
        ({"endpoints": (ENDPOINT,)}, "token-endpoints"),
        ({"lifetime_s": 7260}, "certificate-lifetime"),
    ],
)
def test_a_token_buys_nothing_beyond_it(scene: Scene, says: dict[str, Any], rule: str) -> None:
    assert scene.refused(scene.redeem(scene.prepared(new_key(), **says))) == rule


@pytest.mark.parametrize(
    ("says", "rule"),
    [
        ({"token_digest": bytes(32)}, "token-unknown"),
        ({"token_id": "AAAAAAAAAAAAAAAA"}, "token-unknown"),
    ],
)
def test_without_a_tokens_secret_there_is_no_certificate(
    scene: Scene, says: dict[str, Any], rule: str
) -> None:
    assert scene.refused(scene.redeem(scene.prepared(new_key()), **says)) == rule


def test_a_token_that_is_bound_to_an_address_is_not_spent_from_another(scene: Scene) -> None:
    made = scene.ca.token(
        "component-harness", capabilities=("credential:use",), agent=AGENT, address="192.0.2.7"
    )
    item = scene.redeem(scene.prepared(new_key()), token=made["token"], address="127.0.0.1")
    assert scene.refused(item) == "token-other-address"


def forged(prepared: items.Prepared, replaced: x509.ExtensionType, *, critical: bool) -> items.Prepared:
    """The same record over other bytes: one extension is another one."""
    certificate = parse_tbs(prepared.tbs)
    builder = (
        x509.CertificateBuilder()
        .subject_name(certificate.subject)
        .issuer_name(certificate.issuer)
        .public_key(certificate.public_key())
        .serial_number(certificate.serial_number)
        .not_valid_before(certificate.not_valid_before_utc)
        .not_valid_after(certificate.not_valid_after_utc)
    )
    present = [(each.value, each.critical) for each in certificate.extensions if each.oid != replaced.oid]
    for value, is_critical in [*present, (replaced, critical)]:
        builder = builder.add_extension(value, critical=is_critical)
    made = builder.sign(new_key(), hashes.SHA256())
    return msgspec.structs.replace(prepared, tbs=made.tbs_certificate_bytes)


FORGERIES: dict[str, tuple[x509.ExtensionType, bool, str]] = {
    "ca-true": (x509.BasicConstraints(ca=True, path_length=None), True, "guard-basic-constraints"),
    "signs-certificates": (
        x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=False,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        ),
        True,
        "guard-key-usage",
    ),
    "signs-ocsp": (
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.OCSP_SIGNING]),
        False,
        "guard-extended-key-usage",
    ),
    "another-name": (x509.SubjectAlternativeName([x509.DNSName("shop.example")]), False, "guard-identity"),
    "another-extension": (x509.TLSFeature([x509.TLSFeatureType.status_request]), False, "guard-extensions"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_the_keyholder_signs_no_bytes_that_are_not_a_leaf_of_the_profile(scene: Scene, name: str) -> None:
    value, critical, rule = FORGERIES[name]
    assert scene.refused(scene.redeem(forged(scene.prepared(new_key()), value, critical=critical))) == rule


@pytest.mark.parametrize(
    "says",
    [{"agent": str(AGENT[:-1] + "1")}, {"capabilities": ()}, {"node": OTHER_NODE}, {"lifetime_s": 3600}],
)
def test_the_keyholder_signs_no_bytes_that_the_record_does_not_describe(
    scene: Scene, says: dict[str, Any]
) -> None:
    key = new_key()
    other = scene.prepared(key, **says)
    lie = msgspec.structs.replace(scene.prepared(key), tbs=other.tbs, serial=other.serial)
    assert scene.refused(scene.redeem(lie)) == "record-differs"


def test_a_renewal_gives_nothing_beyond_its_lineage(scene: Scene) -> None:
    agent = scene.ca.enroll(
        "component-harness", capabilities=("credential:use",), agent=str(AGENT[:-1] + "2")
    )
    same = {"agent": str(AGENT[:-1] + "2")}
    for says, rule in (
        ({}, "lineage-identity"),
        ({**same, "node": OTHER_NODE}, "lineage-identity"),
        ({**same, "subsystem": "component"}, "lineage-identity"),
        ({**same, "capabilities": ("credential:use", "ledger:read")}, "lineage-capabilities"),
        ({**same, "endpoints": (f"https+tcp://{AGENT[:-1]}2.{NODE}:1",)}, "lineage-endpoints"),
        ({**same, "lifetime_s": 86400}, "certificate-lifetime"),
    ):
        item = items.Renew(serial=agent.serial, certificate=scene.prepared(new_key(), **says))
        assert scene.refused(item) == rule


def peer_of(agent: Agent, subsystem: str, node: str = NODE) -> Peer:
    uid = agent.certificate.subject.get_attributes_for_oid(NameOID.USER_ID)[0].value
    return Peer(serial=agent.serial, subsystem=subsystem, node=node, agent=str(uid))


def test_a_spawn_gives_nothing_beyond_manager_spawner_and_policy(scene: Scene) -> None:
    ca = scene.ca
    manager = peer_of(ca.enroll("certificate-manager", capabilities=("enroll:node",)), "certificate-manager")
    controller = ca.enroll("node-controller", capabilities=("spawn:component-harness",))
    far = peer_of(
        ca.enroll("certificate-manager", capabilities=("enroll:node",), node=OTHER_NODE),
        "certificate-manager",
        OTHER_NODE,
    )
    harness = ca.enroll("component-harness", capabilities=("credential:use",))
    asked = ("credential:use",)
    good: dict[str, Any] = {"manager": manager, "spawner": controller.serial, "asked": asked}
    cases: list[tuple[dict[str, Any], dict[str, Any], str]] = [
        ({"manager": far}, {}, "spawn-other-node"),
        ({"manager": peer_of(controller, "node-controller")}, {}, "spawn-not-manager"),
        ({"spawner": harness.serial}, {}, "spawn-not-granted"),
        ({"spawner": "ab" * 19}, {}, "spawn-spawner"),
        ({}, {"subsystem": "component"}, "spawn-not-granted"),
        ({}, {"subsystem": "certificate-manager"}, "reserved-subsystem"),
        ({}, {"capabilities": ("credential:use", "ledger:read")}, "spawn-capabilities"),
        ({"asked": (*asked, "enroll:node")}, {"capabilities": (*asked, "enroll:node")}, "spawn-capabilities"),
        ({}, {"lifetime_s": 86400}, "certificate-lifetime"),
    ]
    for changes, says, rule in cases:
        prepared = scene.prepared(new_key(), agent=str(AGENT[:-1] + "3"), **says)
        assert scene.refused(items.Spawn(**{**good, **changes}, certificate=prepared)) == rule


def test_the_fronts_own_certificate_is_no_other(scene: Scene) -> None:
    for says in ({"node": NODE}, {"subsystem": "component-harness"}):
        own: dict[str, Any] = {
            "subsystem": "certificate-authority",
            "node": scene.home.config().node,
            "capabilities": (),
        }
        own |= {"named_by_node": True}
        prepared = scene.prepared(new_key(), **{**own, **says})
        assert scene.refused(items.FrontCertificate(certificate=prepared)) == "front-identity"


OPERATOR = Operator(uid=0, name="root")
NOT_THE_FRONTS: list[Item] = [
    items.MintToken(
        operator=OPERATOR,
        token_id="AAAAAAAAAAAAAAAA",
        token_digest=bytes(32),
        subsystem="certificate-manager",
        node=NODE,
        agent=AGENT,
        capabilities=("enroll:node",),
        endpoints=(),
        lifetime_s=7200,
        expires_at=2_000_000_000,
        address="",
        spki_digest=b"",
        bootstrap=False,
        again=False,
    ),
    items.VoidToken(operator=OPERATOR, token_id="AAAAAAAAAAAAAAAA"),
    items.ConfirmNode(operator=OPERATOR, node=NODE, serial="01", fingerprint=bytes(32)),
    items.Revoke(operator=OPERATOR, serial="01", reason="keyCompromise"),
    items.ResponderCertificate(serial="01", not_after=2_000_000_000, spki_digest=bytes(32), tbs=b"\x30\x00"),
    items.ExpirePending(serial="01"),
    items.VoidCertificate(serial="01", because="again", reason="superseded"),
    items.PublishCRL(shard=-1, number=9, this_update=0, revoked=0, tbs_digest=bytes(32)),
    Alarm(what="fire", detail="there is none"),
]


@pytest.mark.parametrize("item", NOT_THE_FRONTS, ids=lambda item: type(item).__name__)
def test_what_is_not_the_fronts_to_ask_is_not_even_recorded(scene: Scene, item: Item) -> None:
    answer = scene.ask(item)
    assert isinstance(answer, Refused)
    assert (answer.by, answer.index) == ("parser", None)
    assert answer.rule in {"not-on-list", "bad-item"}


@pytest.mark.parametrize("body", [b"", b"\x00" * 64, b"\x81\xa4kind\xa6redeem", b"\xff" * 1000])
def test_what_is_no_item_is_refused_and_the_recorder_goes_on(scene: Scene, body: bytes) -> None:
    answer = scene.thief.submit_raw(scene.home.places.channel("front"), body)
    assert isinstance(answer, Refused)
    assert (answer.by, answer.rule) == ("parser", "bad-item")


def test_a_stranger_does_not_end_a_certificate(scene: Scene) -> None:
    victim, other = scene.ca.enroll("component-harness"), scene.ca.enroll("component-harness")
    item = items.Retire(by=peer_of(other, "component-harness"), serial=victim.serial, reason="keyCompromise")
    assert scene.refused(item) == "retire-stranger"


def test_the_fronts_user_reaches_neither_keys_nor_the_other_channels(scene: Scene) -> None:
    require_root()
    places = scene.home.places
    assert scene.users.separated
    assert scene.thief.can("read", places.database)
    assert not scene.thief.can("write", places.database)
    for path in (places.sealed_keys, places.keyholder, scene.home.sealed_root):
        assert not scene.thief.can("read", path)
    assert scene.thief.can("connect", places.channel("front"))
    for channel in ("keyholder", "admin", "responder", "ocsp"):
        assert not scene.thief.can("connect", places.channel(channel))


def test_another_roles_user_is_not_heard_as_the_front(scene: Scene) -> None:
    require_root()
    with ThiefInRole(scene.users, RoleName.STATUS) as other:
        assert not other.can("connect", scene.home.places.channel("front"))
