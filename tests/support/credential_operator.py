"""The operator's verbs of a credentials service over a store of a test's own, with a recorder that decides as
the real one does and a keyholder that believes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Connection, Engine

from credsvc.admin.verbs import make_verbs
from credsvc.config import Config
from credsvc.items import ApproveModule, PutCredential
from ostiary.errors import Forbidden
from ostiary.names import parse_application, parse_node
from ostiary.recorder.client import RecorderClient
from ostiary.work.answer import Recorded
from ostiary.work.item import Item
from tests.support.credential_decisions import OPERATOR, SEALED, decide, settle
from tests.support.repository import ROOT

LIBRARY = ROOT / "modules"
CONFIG = Config(
    application=parse_application("shop.example"),
    node=parse_node("credentials.nodes.shop.example"),
    kek="file:kek",
    ca_url="https://ca.shop.example",
    manager_socket="/run/manager",
)


@dataclass
class RecorderOnStore:
    """Decides each item against the store and settles at once; `items` are those that it authorized."""

    engine: Engine
    items: list[Item] = field(default_factory=list)

    def submit(self, item: Item) -> Recorded:
        with self.engine.begin() as tx:
            (ruling,) = decide(tx, item)
            if ruling.verdict.decision == "denied":
                raise Forbidden(ruling.verdict.reason, rule=ruling.verdict.rule)
            if isinstance(item, PutCredential | ApproveModule):
                settle(tx, item, SEALED)
        self.items.append(item)
        return Recorded(index=len(self.items) - 1)


class OperatorVerbs:
    """`call` does what an operator's command does; `items` are the acts that were recorded by it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._recorder = RecorderOnStore(engine)
        self.verbs = make_verbs(CONFIG, cast("RecorderClient", self._recorder), engine)

    @property
    def items(self) -> list[Item]:
        return self._recorder.items

    def call(self, verb: str, **arguments: Any) -> Any:
        return self.verbs[verb](OPERATOR, arguments)

    def record(self, act: Callable[[Connection], object]) -> None:
        """Change the store as a recorder would that somebody else asked."""
        with self.engine.begin() as tx:
            act(tx)

    def activate(self, module: str) -> dict[str, Any]:
        """Propose and approve a module of the library; its digests."""
        digests: dict[str, Any] = self.propose(module)
        self.call("module.approve", **approval_of(digests))
        return digests

    def propose(self, module: str) -> dict[str, Any]:
        folder = LIBRARY / module
        manifest, source = (folder / name for name in ("manifest.toml", "module.py"))
        proposed: dict[str, Any] = self.call(
            "module.propose", manifest=manifest.read_bytes(), source=source.read_bytes()
        )
        return proposed


def approval_of(proposed: dict[str, Any]) -> dict[str, Any]:
    """The arguments that approve what was proposed; the signature is for a keyholder that believes."""
    digests = {name: proposed[name] for name in ("name", "module_digest", "manifest_digest")}
    return {**digests, "approved_at": 1, "signature": b"\x01" * 64}
