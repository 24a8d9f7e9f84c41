"""A CA whose recorder was compromised: the keyholder does only recorded work that its guard accepts, and
never signs a fork.

The tests depend on each other's order on one service: once a thief's leaves are in the keyholder's tree,
nobody can remove them.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from cryptography import x509

from ca.certificates.shards import ShardNumber
from ca.front.enrollment import RANDOM_BYTES, Wanted, prepare_for_key
from ca.home import CAHome
from ca.items import Prepared, Redeem
from ostiary.admin.client import AdminClient
from ostiary.capabilities import parse_capabilities
from ostiary.certificate import assemble, spki_der
from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName
from ostiary.errors import Busy
from ostiary.identity import Identity
from ostiary.keyholder.protocol import Batch, CatchUp, Done, Hello, Refusal, Resume, TreeState, Work
from ostiary.ledger.tree import leaf_hash
from ostiary.names import parse_agent_id, parse_application, parse_node, parse_subsystem
from ostiary.roles import choose_users
from ostiary.work.entry import AUTHORIZED, Verdict, build_entry
from ostiary.work.item_encoding import encode_item
from tests.support.ca_service import APPLICATION, NODE, RunningCA, new_key, running_ca
from tests.support.inside_role import ThiefInRole
from tests.support.killing import Roles
from tests.support.need import require_root
from tests.support.waiting import until

pytestmark = pytest.mark.slow
Forge = Callable[[Redeem, int], bytes]


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A running CA, and the thief in its recorder."""

    ca: RunningCA
    home: CAHome
    thief: ThiefInRole

    def say(self, message: Hello | Resume | CatchUp | Batch) -> TreeState | Done | Refusal:
        answer = self.thief.say(self.home.places.channel("keyholder"), message)
        assert isinstance(answer, TreeState | Done | Refusal)
        return answer

    def size(self) -> int:
        state = self.say(Hello())
        assert isinstance(state, TreeState)
        return state.size

    def item(self) -> Redeem:
        """Work that nobody asked for: a token that is not there buys a certificate."""
        return Redeem(
            token_id="AAAAAAAAAAAAAAAA",
            token_digest=bytes(32),
            address="127.0.0.1",
            certificate=self._prepared(),
        )

    def outcome(self, entry: bytes, item: Redeem, *, at_ms: int, offset: int = 0) -> tuple[bytes, str | None]:
        """Send one leaf and one work item; what came of it."""
        work = Work(offset=offset, at_ms=at_ms, item=encode_item(item))
        done = self.say(Batch(first=self.size(), leaf_hashes=leaf_hash(entry), work=(work,)))
        assert isinstance(done, Done)
        return done.results[0].output, done.results[0].refused

    def _prepared(self) -> Prepared:
        identity = Identity(
            application=parse_application(APPLICATION),
            subsystem=parse_subsystem("component-harness"),
            node=parse_node(NODE),
            agent=parse_agent_id("5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"),
            endpoints=(),
            capabilities=parse_capabilities(["credential:use"]),
        )
        return prepare_for_key(
            self.home.profile(),
            Wanted(identity=identity, lifetime=timedelta(hours=2), pending=False),
            spki_der(new_key().public_key()),
            shard=ShardNumber(1),
            now=datetime.now(UTC),
            random_bytes=secrets.token_bytes(RANDOM_BYTES),
        )


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with running_ca() as ca:
        home = CAHome(ServiceHome(ca.home / "ca"))
        users = choose_users(home.config().role_uid_base, "ca.role", home.places.path)
        with ThiefInRole(users, RoleName.RECORDER) as thief:
            yield Scene(ca=ca, home=home, thief=thief)


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def honest(item: Redeem, at_ms: int) -> bytes:
    return build_entry(item, encode_item(item), AUTHORIZED, at_ms=at_ms)


def no_entry(_item: Redeem, _at_ms: int) -> bytes:
    return b'{"act":"00"}'


def denied(item: Redeem, at_ms: int) -> bytes:
    return build_entry(item, encode_item(item), Verdict("denied", "token-unknown", "no"), at_ms=at_ms)


def of_another_item(item: Redeem, at_ms: int) -> bytes:
    return honest(msgspec.structs.replace(item, token_id="BBBBBBBBBBBBBBBB"), at_ms)


def prettier(item: Redeem, at_ms: int) -> bytes:
    return honest(item, at_ms).replace(b'"127.0.0.1"', b'"192.0.2.99"')


def another_time(item: Redeem, at_ms: int) -> bytes:
    return honest(item, at_ms - 1)


@pytest.mark.parametrize("forge", [no_entry, denied, of_another_item, prettier, another_time])
def test_work_whose_entry_is_not_in_the_batch_is_refused(scene: Scene, forge: Forge) -> None:
    item, at_ms = scene.item(), now_ms()
    assert scene.outcome(forge(item, at_ms), item, at_ms=at_ms) == (b"", "entry-not-in-batch")


@pytest.mark.parametrize("offset", [-1, 1, 2**40])
def test_work_that_points_outside_of_the_batch_is_refused(scene: Scene, offset: int) -> None:
    item, at_ms = scene.item(), now_ms()
    found = scene.outcome(honest(item, at_ms), item, at_ms=at_ms, offset=offset)
    assert found == (b"", "entry-not-in-batch")


def test_a_record_from_another_time_is_refused(scene: Scene) -> None:
    item, at_ms = scene.item(), now_ms() - 120_000
    assert scene.outcome(honest(item, at_ms), item, at_ms=at_ms) == (b"", "entry-time")


def test_what_stands_in_the_batch_is_done_and_can_never_be_taken_out_of_the_ledger(scene: Scene) -> None:
    """The thief decides for tokens that don't exist: that is what a recorder is trusted with. But it is in
    the signed tree.
    """
    item, at_ms = scene.item(), now_ms()
    output, refused = scene.outcome(honest(item, at_ms), item, at_ms=at_ms)
    assert refused is None
    der = assemble(item.certificate.tbs, scene.home.profile().signature_algorithm_der, output)
    x509.load_der_x509_certificate(der).verify_directly_issued_by(scene.home.issuing())
    size = scene.size()
    for message in (
        Batch(first=size - 1, leaf_hashes=leaf_hash(b"{}"), work=()),
        CatchUp(first=0, leaf_hashes=leaf_hash(b"{}")),
        Resume(note=b"", size=0, peaks=b""),
    ):
        assert isinstance(scene.say(message), Refusal)
    assert scene.size() == size


def test_a_record_that_describes_another_certificate_is_refused(scene: Scene) -> None:
    item, at_ms = scene.item(), now_ms()
    other = scene.item().certificate
    item = msgspec.structs.replace(item, certificate=msgspec.structs.replace(item.certificate, tbs=other.tbs))
    assert scene.outcome(honest(item, at_ms), item, at_ms=at_ms) == (b"", "record-differs")


def test_the_recorders_user_cannot_read_keys(scene: Scene) -> None:
    require_root()
    for path in (scene.home.places.keyholder, scene.home.places.sealed_keys, scene.home.sealed_root):
        assert not scene.thief.can("read", path)


def test_a_store_that_lacks_the_thiefs_leaves_is_not_signed_for_any_more(scene: Scene) -> None:
    """Who takes back the record of what was done ends the service: the keyholder does not go back, nor after
    its restart.
    """
    with pytest.raises(Busy):
        mint(scene)
    roles = Roles(scene.home.places)
    killed = roles.kill("keyholder", "recorder")
    until(lambda: roles.are_back(killed))
    for _ in range(3):
        with pytest.raises(Busy):
            mint(scene)
    assert "keyholder-refuse" in scene.ca.log()


def mint(scene: Scene) -> None:
    admin = AdminClient(scene.home.places.operator_socket, service="ca")
    admin.call("token.create", subsystem="component-harness", node=NODE)
