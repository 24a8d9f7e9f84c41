"""What becomes of a certificate: prove and confirm a pending one, revoke one, and the feed of those that were
revoked.
"""

from __future__ import annotations

from typing import Final

import falcon
import msgspec

from ca.front.feed import PAUSE_S
from ca.front.parts import FrontParts
from ca.front.peer import PROVERS, SEEN, Caller
from ca.items import Activate, ReasonCode, Retire
from ostiary.certificate import parse_serial_hex
from ostiary.errors import BadInput, Forbidden
from ostiary.front.http import read_json, write_json

MAX_WAIT_S: Final = 30
_MAX_NUMBER: Final = 1 << 62


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a revocation."""

    reason: ReasonCode


class Prove:
    """The CA dials back to the address fixed in the token: the pending certificate's own agent asks
    for it.
    """

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_post(self, req: falcon.Request, resp: falcon.Response, serial: str) -> None:
        caller = _own(self._parts, req, serial, act="prove")
        try:
            self._parts.prove(caller.row.address, caller.identity.host, caller.der)
        except (Forbidden, BadInput) as exc:
            raise self._parts.doorkeeper.record_refusal(
                caller, act="prove", target=serial, rule="dial-back", reason=exc.message
            ) from exc
        self._parts.recording.submit(Activate(serial=serial, means="dial-back"))
        write_json(resp, {"serial_number": serial, "status": "active"})


class Confirm:
    """The agent's own word, where neither dial-back nor operator is possible; the recorder says when it
    counts.
    """

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_post(self, req: falcon.Request, resp: falcon.Response, serial: str) -> None:
        _own(self._parts, req, serial, act="confirm")
        self._parts.recording.submit(Activate(serial=serial, means="self"))
        write_json(resp, {"serial_number": serial, "status": "active"})


def _own(parts: FrontParts, req: falcon.Request, serial: str, *, act: str) -> Caller:
    """Let in a pending certificate that speaks of itself."""
    parse_serial_hex(serial)
    caller = parts.doorkeeper.identify(req, act=act, standings=PROVERS)
    if caller.serial != serial:
        raise parts.doorkeeper.record_refusal(
            caller,
            act=act,
            target=serial,
            rule="certificate-other",
            reason="a certificate is proven by its own holder",
        )
    return caller


class Revoke:
    """The end of a certificate, asked for by its agent or its node's manager; who that is, the recorder
    decides.
    """

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_post(self, req: falcon.Request, resp: falcon.Response, serial: str) -> None:
        parse_serial_hex(serial)
        caller = self._parts.doorkeeper.identify(req, act="revoke", standings=SEEN)
        reason = read_json(req, Revocation).reason
        recorded = self._parts.recording.submit(Retire(by=caller.peer, serial=serial, reason=reason))
        write_json(resp, {"serial_number": serial, "status": "revoked", "entry": recorded.index})


class WhoAmI:
    """Who the CA takes the caller for."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        caller = self._parts.doorkeeper.identify(req, act="whoami", standings=SEEN)
        identity, row = caller.identity, caller.row
        write_json(
            resp,
            {
                "application": identity.application,
                "subsystem": identity.subsystem,
                "node": identity.node,
                "agent": identity.agent,
                "serial_number": caller.serial,
                "status": row.status,
                "generation": row.generation,
                "capabilities": sorted(identity.capabilities),
                "not_after": row.not_after,
            },
        )


class Revocations:
    """The feed; `since` is the number of the last step that the caller knows, `wait` how long it may be kept
    waiting.
    """

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        self._parts.doorkeeper.identify(req, act="revocations")
        since, wait_s = _number(req, "since", _MAX_NUMBER), _number(req, "wait", MAX_WAIT_S)
        following, steps = self._parts.feed.since(since, wait_s=wait_s)
        if not steps:
            # Also for those who found every seat taken and were not kept waiting.
            resp.set_header("Retry-After", str(PAUSE_S))
        revoked = [
            {"serial_number": step.serial, "revoked_at": step.revoked_at, "reason": step.reason}
            for step in steps
        ]
        write_json(resp, {"next": following, "revoked": revoked})


def _number(req: falcon.Request, name: str, maximum: int) -> int:
    text = req.get_param(name, default="0")
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= maximum):
        raise BadInput(f"{name}: {text[:32]!r} is not a number of 0 to {maximum}", field=name)
    return int(text)
