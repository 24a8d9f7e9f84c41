"""The later life of a certificate: prove and confirm a pending one, revoke one, and the feed of
revocations. Every change is an item for the recorder.
"""

from __future__ import annotations

from typing import Final

import falcon.asgi
import msgspec

from ca.front.feed import PAUSE_S
from ca.front.parts import FrontParts
from ca.front.peer import PROVERS, SEEN, Caller
from ca.items import Activate, ReasonCode, Retire
from ostiary.certificate import parse_serial_hex
from ostiary.errors import BadInput, Forbidden
from ostiary.front.http import read_json, write_json

# Below the minute after which proxies and load balancers usually cut a silent connection.
MAX_WAIT_S: Final = 30
# The feed's numbers are 64-bit in the store; this leaves room to add one.
_MAX_NUMBER: Final = 1 << 62


class Revocation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a revocation."""

    reason: ReasonCode


class Prove:
    """Dial back to the address fixed in the token, at the request of the pending certificate's own agent.

    1. The caller holds the pending certificate itself.
    2. Whoever answers at the address holds its key (ca/front/dial_back.py).
    3. Have it recorded: then it is active.
    """

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_post(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, serial: str) -> None:
        # 1.
        caller = await _own(self._parts, serial, act="prove")
        # 2. Within this request: the agent waits for the outcome anyway.
        try:
            await self._parts.prove(caller.row.address, caller.identity.host, caller.der)
        except (Forbidden, BadInput) as exc:
            raise await self._parts.doorkeeper.record_refusal(
                caller, act="prove", target=serial, rule="dial-back", reason=exc.message
            ) from exc
        # 3.
        await self._parts.recording.submit(Activate(serial=serial, means="dial-back"))
        write_json(resp, {"serial_number": serial, "status": "active"})


class Confirm:
    """Take the agent's own word, where neither dial-back nor operator is possible; the recorder decides
    whether it counts yet.
    """

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_post(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response, serial: str) -> None:
        await _own(self._parts, serial, act="confirm")
        await self._parts.recording.submit(Activate(serial=serial, means="self"))
        write_json(resp, {"serial_number": serial, "status": "active"})


async def _own(parts: FrontParts, serial: str, *, act: str) -> Caller:
    """Let in the holder of a pending certificate who asks about that same certificate."""
    parse_serial_hex(serial)
    caller = await parts.doorkeeper.identify(act=act, standings=PROVERS)
    if caller.serial != serial:
        raise await parts.doorkeeper.record_refusal(
            caller,
            act=act,
            target=serial,
            rule="certificate-other",
            reason="only its own holder can have a certificate proven",
        )
    return caller


class Revoke:
    """End a certificate at the request of its agent or its node's manager; the recorder decides who
    that is.
    """

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_post(self, req: falcon.asgi.Request, resp: falcon.asgi.Response, serial: str) -> None:
        parse_serial_hex(serial)
        # A pending certificate may end itself: an agent that failed to start should leave nothing behind.
        caller = await self._parts.doorkeeper.identify(act="revoke", standings=SEEN)
        reason = (await read_json(req, Revocation)).reason
        recorded = await self._parts.recording.submit(Retire(by=caller.peer, serial=serial, reason=reason))
        write_json(resp, {"serial_number": serial, "status": "revoked", "entry": recorded.index})


class WhoAmI:
    """Tell a caller how the CA sees it."""

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_get(self, _req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        caller = await self._parts.doorkeeper.identify(act="whoami", standings=SEEN)
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
    """The feed. `since` is the number of the last step that the caller knows, `wait` the seconds that it is
    ready to wait.
    """

    def __init__(self, parts: FrontParts) -> None:
        self._parts = parts

    async def on_get(self, req: falcon.asgi.Request, resp: falcon.asgi.Response) -> None:
        caller = await self._parts.doorkeeper.identify(act="revocations")
        since, wait_s = _number(req, "since", _MAX_NUMBER), _number(req, "wait", MAX_WAIT_S)
        following, steps = await self._parts.feed.since(since, wait_s=wait_s, by=caller.serial)
        if not steps:
            # Also for a caller that found every seat taken and so did not wait.
            resp.set_header("Retry-After", str(PAUSE_S))
        revoked = [
            {"serial_number": step.serial, "revoked_at": step.revoked_at, "reason": step.reason}
            for step in steps
        ]
        write_json(resp, {"next": following, "revoked": revoked})


def _number(req: falcon.asgi.Request, name: str, maximum: int) -> int:
    text = req.get_param(name, default="0")
    # 19 digits hold 2**62. int() of a longer text would take time that grows with its square
    # (CVE-2020-10735).
    if not (text.isascii() and text.isdigit() and len(text) <= 19 and int(text) <= maximum):
        raise BadInput(f"{name}: {text[:32]!r} is not a number from 0 to {maximum}", field=name)
    return int(text)
