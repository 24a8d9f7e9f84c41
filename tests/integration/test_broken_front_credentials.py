"""A credentials service whose front was compromised: a thief in it uses what agents may use, within ceilings
and on the record, and gets no secret.

Each bad case differs from the good one in one respect.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pytest

from credsvc import items
from credsvc.items import salted_holes_digest
from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.work.answer import Recorded, Refused
from ostiary.work.item import Item, Operator, Peer, item_digest
from ostiary.work.item_encoding import encode_item
from ostiary.work.reports import Alarm
from tests.support.credential_service import AWS_SECRET, LIBRARY, Service
from tests.support.inside_role import ThiefInRole
from tests.support.killing import Follower
from tests.support.need import require_root
from tests.support.patient_client import PatientAdminClient
from tests.support.traces import forms

pytestmark = pytest.mark.slow
REGION = "eu-north-1"
PAYLOAD = hashlib.sha256(b"").hexdigest()
PEER = Peer(
    serial="ab" * 19,
    subsystem="component",
    node="n1.nodes.shop.example",
    agent="5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10",
)


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A running service, the thief in its front, and who reads the ledger."""

    service: Service
    home: ServiceHome
    users: RoleUsers
    thief: ThiefInRole
    follower: Follower

    def ask(self, item: Item) -> Recorded | Refused:
        """Say something as the front; what came of it is in the ledger if anything did."""
        answer = self.thief.submit(self.home.channel("front"), item)
        if answer.index is not None:
            self.follower.read_through(answer.index)
            entry = self.follower.entries[answer.index]
            assert entry["act"] == item_digest(encode_item(item)).hex()
            was_denied = isinstance(answer, Refused) and answer.by == "recorder"
            assert entry["decision"] == ("denied" if was_denied else "authorized")
        return answer

    def use(self, **says: Any) -> items.Use:
        """A use that the front may ask for, but for what is said otherwise; `holes` are merged."""
        admin = PatientAdminClient(self.home.operator_socket, service="credsvc")
        module = next(row for row in admin.call("module.list") if row["name"] == "aws-sigv4")
        now = int(time.time())
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
        headers = {"host": "b.s3.amazonaws.com", "x-amz-content-sha256": PAYLOAD, "x-amz-date": stamp}
        holes: dict[str, Any] = {
            "t": now,
            "method": "GET",
            "path": "/",
            "region": REGION,
            "service": "s3",
            "payload": PAYLOAD,
            "query": [],
            "headers": [{"name": name, "value": value} for name, value in headers.items()],
        }
        good = items.Use(
            peer=PEER,
            credential="billing-aws",
            version=1,
            operation="sign",
            module="aws-sigv4",
            module_digest=module["module_digest"],
            manifest_digest=module["manifest_digest"],
            formula="s3_headers",
            holes={**holes, **says.pop("holes", {})},
            salt=secrets.token_bytes(16),
            rule="components-sign-aws",
            policy_digest=hashlib.sha256(admin.call("policy.show")["policy"].encode()).hexdigest(),
        )
        return msgspec.structs.replace(good, **says)


@pytest.fixture(scope="module")
def scene(shared_credentials: Service) -> Iterator[Scene]:
    service, home = shared_credentials, ServiceHome(shared_credentials.home / "credsvc")
    shared = home.channel("front").stat().st_uid == service.home.stat().st_uid
    users = RoleUsers(base=None if shared else 61220)
    with ThiefInRole(users, RoleName.FRONT) as thief:
        follower = Follower(home, service="credsvc")
        yield Scene(service=service, home=home, users=users, thief=thief, follower=follower)


def day_key(secret: str) -> bytes:
    """SigV4's first derived key: whoever has it signs for a day."""
    date = time.strftime("%Y%m%d", time.gmtime())
    return hmac.new(f"AWS4{secret}".encode(), date.encode(), hashlib.sha256).digest()


def test_what_a_front_may_ask_it_gets_and_it_is_recorded(scene: Scene) -> None:
    item = scene.use()
    done = scene.ask(item)
    assert isinstance(done, Recorded)
    assert "Signature=" in msgspec.msgpack.decode(done.output)["header.authorization"]
    entry = scene.follower.entries[done.index]
    assert entry["by"]["serial"] == PEER.serial
    assert entry["holes"] == salted_holes_digest(item.salt, item.holes)


NOW = int(time.time())
BEYOND: dict[str, tuple[dict[str, Any], set[str]]] = {
    "formula-that-is-not-there": ({"formula": "day_key"}, {"bad-input"}),
    "formula-of-another-operation": ({"formula": "chunk"}, {"bad-input"}),
    "another-operation": ({"operation": "presign"}, {"bad-input"}),
    "operation-that-is-not-there": ({"operation": "reveal"}, {"bad-input", "not-found"}),
    "code-that-was-not-approved": ({"module_digest": "00" * 32}, {"stale-module"}),
    "manifest-that-was-not-approved": ({"manifest_digest": "00" * 32}, {"stale-module"}),
    "another-module": ({"module": "gogrid"}, {"stale-module"}),
    "credential-of-another-module": ({"credential": "grid"}, {"stale-module"}),
    "credential-that-is-not-there": ({"credential": "nobodys"}, {"credential-unknown"}),
    "another-version": ({"version": 2}, {"stale-credential"}),
    "another-policy": ({"policy_digest": "00" * 32}, {"stale-policy"}),
    "region-outside-of-the-ceiling": ({"holes": {"region": "us-east-1"}}, {"ceiling"}),
    "hole-outside-of-its-type": ({"holes": {"region": "eu-\n"}}, {"bad-input"}),
    "hole-too-many": ({"holes": {"secret_key": "x"}}, {"bad-input"}),
    "yesterday": ({"holes": {"t": NOW - 86400}}, {"bad-input"}),
    "tomorrow": ({"holes": {"t": NOW + 86400}}, {"bad-input"}),
    "unsorted-headers": (
        {"holes": {"headers": [{"name": "z", "value": ""}, {"name": "a", "value": ""}]}},
        {"bad-input"},
    ),
}


@pytest.mark.parametrize("name", BEYOND)
def test_there_is_no_use_beyond_approval_ceiling_types_and_clock(scene: Scene, name: str) -> None:
    says, rules = BEYOND[name]
    answer = scene.ask(scene.use(**says))
    assert isinstance(answer, Refused), "the thief got it"
    assert answer.rule in rules, answer
    assert answer.index is not None, "an attempt that reached a decision is in the ledger"


def test_a_module_that_was_proposed_is_not_one_that_was_approved(scene: Scene, tmp_path: Path) -> None:
    manifest = (LIBRARY / "aws-sigv4" / "manifest.toml").read_bytes().replace(b'"1.0.0"', b'"6.6.6"')
    admin = PatientAdminClient(scene.home.operator_socket, service="credsvc")
    source = (LIBRARY / "aws-sigv4" / "module.py").read_bytes()
    proposed = admin.call("module.propose", manifest=manifest, source=source)
    answer = scene.ask(
        scene.use(module_digest=proposed["module_digest"], manifest_digest=proposed["manifest_digest"])
    )
    assert isinstance(answer, Refused)
    assert answer.rule == "stale-module"


OPERATOR = Operator(uid=0, name="root")
DIGEST = "00" * 32
_MODULE: dict[str, Any] = {
    "operator": OPERATOR,
    "module": "aws-sigv4",
    "module_digest": DIGEST,
    "manifest_digest": DIGEST,
}
NOT_THE_FRONTS: list[Item] = [
    items.PutCredential(
        operator=OPERATOR,
        credential="mine",
        version=1,
        module="aws-sigv4",
        manifest_digest=DIGEST,
        owner="component",
        labels=(),
        shareable={},
        ceiling={},
        envelopes={},
    ),
    items.DisableCredential(operator=OPERATOR, credential="billing-aws"),
    items.DeleteCredential(operator=OPERATOR, credential="billing-aws"),
    items.ProposeModule(**_MODULE, manifest=b"", source=b""),
    items.ApproveModule(**_MODULE, approved_at=0, signature=bytes(64)),
    items.SetPolicy(operator=OPERATOR, policy_digest=DIGEST, policy="permit(principal, action, resource);"),
    Alarm(what="fire", detail="there is none"),
]


@pytest.mark.parametrize("item", NOT_THE_FRONTS, ids=lambda item: type(item).__name__)
def test_what_is_not_the_fronts_to_ask_is_not_even_recorded(scene: Scene, item: Item) -> None:
    answer = scene.ask(item)
    assert isinstance(answer, Refused)
    assert (answer.by, answer.rule, answer.index) == ("parser", "not-on-list", None)


def test_the_fronts_user_reaches_no_key_and_no_other_channel(scene: Scene) -> None:
    require_root()
    assert scene.users.separated
    assert scene.thief.can("read", scene.home.database)
    assert not scene.thief.can("write", scene.home.database)
    for path in (scene.home.sealed_keys, scene.home.keyholder, scene.service.folder / "approver"):
        assert not scene.thief.can("read", path)
    for channel in ("keyholder", "admin"):
        assert not scene.thief.can("connect", scene.home.channel(channel))


def test_no_answer_held_a_secret_or_what_signs_for_a_day(scene: Scene) -> None:
    assert isinstance(scene.ask(scene.use()), Recorded)
    heard = b"".join(scene.thief.heard)
    assert b"Signature=" in heard
    for secret in (AWS_SECRET.encode(), day_key(AWS_SECRET)):
        for form in forms(secret).values():
            assert form not in heard
