"""A CA's decisions over rows in memory, for tests: items that are right by default, and a clock that the test
moves by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any, Final, TypeVar

import msgspec

from ca.items import Activate, ConfirmNode, MintToken, Prepared, Redeem, Renew, Retire, Revoke, Spawn
from ca.recorder.decide import decide_item
from ca.recorder.decision import Decision, Terms
from ca.store.rows import CertificateRow, Rows, TokenRow
from ostiary.certificate import ECDSA_SHA256, assemble
from ostiary.timestamp import EpochSeconds
from ostiary.work.item import Item, Operator, Peer

NODE: Final = "n1.nodes.shop.example"
AGENT: Final = "5b1f1a3e-7a0c-4c1d-9b55-0c3b9f3f2a10"
StructT = TypeVar("StructT", bound=msgspec.Struct)
OPERATOR: Final = Operator(uid=0, name="root")
SECRET: Final = b"\x05" * 32
TOKEN: Final = "abcdefghijklmnop"
NOW_S: Final = EpochSeconds(1_795_000_000)
GRANTS: Final[Mapping[str, frozenset[str]]] = {
    "certificate-manager": frozenset({"enroll:node"}),
    "node-controller": frozenset({"spawn:component-harness", "ledger:read"}),
    "component-harness": frozenset({"credential:use", "spawn:component"}),
    "component": frozenset({"credential:use", "spawn:component"}),
}


def key(number: int) -> bytes:
    """The SPKI digest of some key."""
    return hashlib.sha256(b"key %d" % number).digest()


class RecorderInMemory:
    """A recorder without a store: it decides items one after the other, against rows that live here."""

    def __init__(self) -> None:
        self.rows = Rows(now_s=NOW_S)
        self.grants = dict(GRANTS)
        self._serials = count(0x10)
        self._agents = count(1)

    @property
    def now_s(self) -> EpochSeconds:
        return self.rows.now_s

    def wait(self, seconds: int) -> None:
        self.rows.now_s = EpochSeconds(self.rows.now_s + seconds)

    def wait_until_due(self, row: CertificateRow) -> None:
        """Wait until a certificate may be renewed: half of its life is over."""
        self.rows.now_s = max(self.rows.now_s, EpochSeconds((row.not_before + row.not_after) // 2))

    def decide(self, item: Item) -> Decision:
        terms = Terms(
            now_s=self.now_s,
            node="ca.shop.example",
            grants=self.grants,
            signature_algorithm_der=ECDSA_SHA256,
            max_lifetime_s=7200,
            max_node_lifetime_s=86400,
        )
        return decide_item(self.rows, item, terms)

    def rule(self, item: Item) -> str:
        """The rule by which an item is refused; "" when it is authorized."""
        return self.decide(item).verdict.rule

    def row(self, serial: str) -> CertificateRow:
        return self.rows.certificates[serial]

    def token(self, token_id: str = TOKEN) -> TokenRow:
        return self.rows.tokens[token_id]

    def states(self) -> dict[str, str]:
        return {serial: row.status for serial, row in self.rows.certificates.items()}

    def new_agent(self) -> str:
        return f"00000000-0000-4000-8000-{next(self._agents):012d}"

    def prepared(self, **changed: Any) -> Prepared:
        serial = changed.pop("serial", None) or f"{next(self._serials):02x}"
        lifetime_s = changed.pop("lifetime_s", 7200)
        right = Prepared(
            serial=serial,
            subsystem="component-harness",
            node=NODE,
            agent=AGENT,
            capabilities=("credential:use",),
            endpoints=(),
            not_before=self.now_s - 60,
            not_after=self.now_s + lifetime_s,
            shard=max(self.rows.shards, default=1),
            spki_digest=key(1),
            tbs=b"tbs of " + serial.encode(),
        )
        return replaced(right, changed)

    def mint(self, **changed: Any) -> MintToken:
        right = MintToken(
            operator=OPERATOR,
            token_id=TOKEN,
            token_digest=SECRET,
            subsystem="component-harness",
            node=NODE,
            agent=AGENT,
            capabilities=("credential:use",),
            endpoints=(),
            lifetime_s=7200,
            expires_at=self.now_s + 600,
            address="",
            spki_digest=b"",
            bootstrap=False,
            again=False,
        )
        return replaced(right, changed)

    def redeem(
        self, *, address: str = "192.0.2.1", token_id: str = TOKEN, digest: bytes = SECRET, **of: Any
    ) -> Redeem:
        return Redeem(
            token_id=token_id, token_digest=digest, address=address, certificate=self.prepared(**of)
        )

    def enrolled(self, **changed: Any) -> CertificateRow:
        """An active certificate for a token of its own; `changed` are members of the token."""
        token_id = f"{next(self._serials):016d}".replace("0", "a").replace("1", "b")
        agent = changed.pop("agent", None) or self.new_agent()
        number = changed.pop("key", 1)
        item = self.mint(token_id=token_id, agent=agent, **changed)
        assert not self.rule(item)
        redeem = self.redeem(
            token_id=token_id,
            agent=agent,
            subsystem=item.subsystem,
            node=item.node,
            capabilities=() if item.bootstrap else item.capabilities,
            lifetime_s=item.lifetime_s,
            spki_digest=key(number),
        )
        assert not self.rule(redeem)
        return self.row(redeem.certificate.serial)

    def manager(self, node: str = NODE) -> CertificateRow:
        return self.enrolled(
            subsystem="certificate-manager", node=node, capabilities=("enroll:node",), lifetime_s=86400
        )

    def controller(self, node: str = NODE) -> CertificateRow:
        capabilities = ("ledger:read", "spawn:component-harness")
        return self.enrolled(
            subsystem="node-controller", node=node, capabilities=capabilities, lifetime_s=86400
        )

    def renew(self, row: CertificateRow, *, number: int = 2, **changed: Any) -> Renew:
        certificate = self.prepared(
            **{
                "subsystem": row.subsystem,
                "node": row.node,
                "agent": row.agent,
                "capabilities": tuple(row.granted.split()),
                "lifetime_s": row.lifetime_s,
                "spki_digest": key(number),
                **changed,
            }
        )
        return Renew(serial=row.serial, certificate=certificate)

    def spawn(self, manager: CertificateRow, spawner: CertificateRow, **changed: Any) -> Spawn:
        asked = changed.pop("asked", ("credential:use", "spawn:component"))
        by = changed.pop("by", None) or peer(manager)
        members = {"agent": self.new_agent(), "capabilities": asked, "spki_digest": key(7), **changed}
        return Spawn(manager=by, spawner=spawner.serial, asked=asked, certificate=self.prepared(**members))

    def used(self, serial: str) -> Activate:
        return Activate(serial=serial, means="used")

    def revoke(self, serial: str, reason: Any = "unspecified") -> Revoke:
        return Revoke(operator=OPERATOR, serial=serial, reason=reason)

    def retire(self, by: CertificateRow, serial: str) -> Retire:
        return Retire(by=peer(by), serial=serial, reason="cessationOfOperation")

    def confirm(self, row: CertificateRow, **changed: Any) -> ConfirmNode:
        """What an operator sends; the certificate is signed first."""
        signed = replace(row, signature=b"signature of " + row.serial.encode())
        self.rows.certificates[row.serial] = signed
        der = assemble(signed.tbs, ECDSA_SHA256, signed.signature or b"")
        right = ConfirmNode(
            operator=OPERATOR, node=row.node, serial=row.serial, fingerprint=hashlib.sha256(der).digest()
        )
        return replaced(right, changed)


def peer(row: CertificateRow) -> Peer:
    """How the front names the holder of a certificate."""
    return Peer(serial=row.serial, subsystem=row.subsystem, node=row.node, agent=row.agent)


def replaced(value: StructT, changed: Mapping[str, Any]) -> StructT:
    """A frozen struct with some members changed; a test of what is wrong in one respect."""
    return msgspec.structs.replace(value, **changed)


def kinds(decision: Decision) -> list[str]:
    """The kinds of the entries that follow from a decision."""
    return [type(item).__name__ for item in decision.also]
