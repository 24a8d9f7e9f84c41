"""An operator of a CA in one process, for tests: a home as `ca init` makes it, the real verbs and decisions;
the keyholder's signatures are stand-ins.
"""

from __future__ import annotations

import base64
import time
from pathlib import Path
from typing import Any, cast

from sqlalchemy import Engine, insert

from ca.admin.verbs import make_verbs
from ca.certificates.addresses import parse_node_address
from ca.certificates.profile import BACKDATE
from ca.home import CAHome
from ca.init import InitPlan, init_ca
from ca.items import Prepared, Redeem
from ca.recorder.role import recorder_service
from ca.store.tables import LEDGER
from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleUsers
from ostiary.recorder.client import RecorderClient
from ostiary.recorder.service import Asked, Settled
from ostiary.store.database import open_for_reading, open_for_writing
from ostiary.token import parse_token
from ostiary.work.answer import Recorded, Refused, refusal_error
from ostiary.work.item import Item, Operator
from ostiary.work.item_encoding import encode_item
from tests.support.ca_settings import RIGHT

OPERATOR = Operator(uid=0, name="root")
NODE = "n1.nodes.shop.example"
SIGNATURE = bytes.fromhex("3006020101020101")
# A checkpoint of the empty tree, whose signature nobody here checks.
NOTE = (
    "shop.example/ca\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n\n\N{EM DASH} shop.example/ca "
    + base64.b64encode(bytes(68)).decode()
    + "\n"
).encode()


class RecorderForOperators:
    """Decides and stores with the CA's own service; signs with a constant."""

    def __init__(self, home: CAHome) -> None:
        self._service = recorder_service(home)
        self.engine = open_for_writing(home.config().database_url)
        self.items: list[tuple[str, Item]] = []
        with self.engine.begin() as tx:
            tx.execute(insert(LEDGER.head).values(id=1, size=0, note=NOTE))

    def submit(self, item: Item, *, timeout_s: float = 1.0) -> Recorded:
        with self.engine.begin() as tx:
            asked = [Asked(item=item, raw=encode_item(item))]
            rulings = self._service.decide(tx, asked, now_ms=time.time_ns() // 1_000_000)
            self.items += [(ruling.verdict.decision, ruling.item) for ruling in rulings]
            answer = next(ruling for ruling in rulings if ruling.answers == 0)
            if answer.attachment is not None:
                self._service.settle(tx, [Settled(item=answer.item, index=0, output=SIGNATURE)])
        if answer.verdict.decision == "denied":
            raise refusal_error(
                Refused(by="recorder", rule=answer.verdict.rule, reason=answer.verdict.reason)
            )
        return Recorded(index=len(self.items) - 1, output=SIGNATURE, substitute=b"")


class OperatedCA:
    """A CA and an operator at its admin socket, without the socket."""

    def __init__(self, directory: Path) -> None:
        self.home = CAHome(ServiceHome(directory / "ca"))
        plan = InitPlan(settings=RIGHT, ask=None, recovery=None)
        self.config = init_ca(self.home, plan, users=RoleUsers(base=None))
        self.recorder = RecorderForOperators(self.home)
        self.engine: Engine = open_for_reading(self.config.database_url)
        self._verbs = make_verbs(self.home, cast("RecorderClient", self.recorder), self.engine)
        self._serials = 0x10

    def close(self) -> None:
        self.engine.dispose()
        self.recorder.engine.dispose()

    def call(self, verb: str, **arguments: Any) -> Any:
        return self._verbs[verb](OPERATOR, arguments)

    def mint(self, **changed: Any) -> dict[str, Any]:
        """`token.create` for a component's harness on NODE."""
        made: dict[str, Any] = self.call(
            "token.create", **{"subsystem": "component-harness", "node": NODE} | changed
        )
        return made

    def redeem(self, token: dict[str, Any], subsystem: str, *, node: str = NODE, key: int = 1) -> str:
        """Spend a token as the front would; returns the serial number."""
        self._serials += 1
        parsed, now_s = parse_token(token["token"]), int(time.time())
        prepared = Prepared(
            serial=f"{self._serials:02x}",
            subsystem=subsystem,
            node=node,
            agent=token["agent"],
            capabilities=(),
            endpoints=(),
            not_before=now_s - int(BACKDATE.total_seconds()),
            not_after=now_s + 3600,
            shard=1,
            spki_digest=bytes([key]) * 32,
            tbs=b"tbs of %d" % self._serials,
        )
        self.recorder.submit(
            Redeem(
                token_id=parsed.id,
                token_digest=parsed.digest,
                address=parse_node_address("192.0.2.1"),
                certificate=prepared,
            )
        )
        return prepared.serial
