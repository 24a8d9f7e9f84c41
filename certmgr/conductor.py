"""Performs the actions of agents' lives: one thread watches the time, a few call the certificate authority.

Rules:
- Every answer of the authority becomes an event of `certmgr.lifecycle`; nothing else returns from here.
- A failure that may pass (no answer, busy, a fault of the authority) becomes `Unavailable`, any other one
  `Refused`.
- A refusal of the manager's own certificate says nothing about the agent: it is `Unavailable`, too.
- An unexpected exception is logged with its traceback and becomes `Unavailable`, so the agent backs off.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Protocol

from certmgr.agents import Agents
from certmgr.est_client import SpawnRequest
from certmgr.issued import Issued, Wanted
from certmgr.lifecycle import (
    Action,
    Event,
    Proven,
    Refused,
    Retired,
    SignedActive,
    SignedPending,
    Unavailable,
    delivers,
)
from certmgr.record import Generation, Record, serials
from ostiary.certificate import SerialHex
from ostiary.edge.clock import Clock
from ostiary.errors import (
    BadInput,
    Busy,
    Conflict,
    Forbidden,
    InternalFault,
    Misconfigured,
    NotFound,
    OstiaryError,
    Unauthenticated,
)
from ostiary.token import Token

# A call holds its thread until it is answered or times out (`est_client.TIMEOUT_S`). All agents share these
# threads, so a hung authority occupies eight of them, not one per agent.
WORKERS: Final = 8
# `wake` is set at every change; this only bounds how late a step of the wall clock is noticed.
_LONGEST_SLEEP_S: Final = 30.0
# Rules after which proving or using a generation can never succeed. All others may pass: a dial-back that
# fails, for instance, succeeds once the firewall is open.
_FINAL_RULES: Final = frozenset(
    {
        "proof-late",
        "lineage-stopped",
        "certificate-revoked",
        "certificate-superseded",
        "certificate-expired",
        "certificate-unknown",
    }
)
# The authority's clock or memory of this lineage says "later"; the agent backs off until then.
_LATER: Final = frozenset({"renewal-early", "renewal-pace"})
# The recorder's refusals when the front still took the manager by the certificate before its renewal.
_NOT_THE_MANAGER: Final = frozenset({"spawn-not-manager", "retire-stranger"})
_log = logging.getLogger("ostiary.certmgr")


class Authority(Protocol):
    """The certificate authority (`certmgr.est_client`). Thread-safe; each call has a deadline of its own.

    Asking again with the same request is safe for all of them: a lost answer is given again.
    """

    def redeem(self, token: Token, csr_der: bytes, wanted: Wanted) -> Issued: ...

    def spawn(self, manager_pem: bytes, request: SpawnRequest) -> Issued: ...

    def renew(self, identity_pem: bytes, csr_der: bytes, wanted: Wanted) -> Issued: ...

    def prove(self, identity_pem: bytes, serial: SerialHex) -> str: ...

    def status(self, identity_pem: bytes) -> str: ...

    def retire(self, manager_pem: bytes, serial: SerialHex) -> None: ...


class Conductor:
    """Runs until `stop`; `tokens` holds the enrollment tokens of the two bootstrap agents."""

    def __init__(
        self, agents: Agents, authority: Authority, *, tokens: Mapping[str, Token], clock: Clock
    ) -> None:
        self._agents = agents
        self._authority = authority
        self._tokens = tokens
        self._clock = clock
        self._stopped = threading.Event()
        self._pool = ThreadPoolExecutor(max_workers=WORKERS, thread_name_prefix="authority")
        self._handlers: dict[Action, Callable[[Record], Event | tuple[Event, Issued]]] = {
            Action.ASK: self._ask,
            Action.PROVE: self._prove,
            Action.RENEW: self._renew,
            Action.USE: self._use,
            Action.RETIRE: self._retire,
        }

    def run(self) -> None:
        """Hand out the work that is due, then sleep until the next is; runs in a thread of its own."""
        while not self._stopped.is_set():
            # Cleared before the table is read: a change after that sets it again and ends the sleep below.
            self._agents.wake.clear()
            try:
                self._hand_out()
            except Exception:  # noqa: BLE001 - the other agents' lives go on
                if not self._stopped.is_set():  # else the pool has just been closed
                    _log.exception("unexpected-exception", extra={"part": "conductor"})
                    self._stopped.wait(1)
                continue
            due = self._agents.next_due()
            left_s = (due - self._clock.now()).total_seconds() if due else _LONGEST_SLEEP_S
            self._agents.wake.wait(min(max(left_s, 0.0), _LONGEST_SLEEP_S))

    def _hand_out(self) -> None:
        for agent, actions in self._agents.take_due():
            for action in actions:
                self._pool.submit(self.perform, agent, action)

    def stop(self) -> None:
        """End `run` without waiting for calls that are under way."""
        self._stopped.set()
        self._agents.wake.set()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def perform(self, agent: str, action: Action) -> None:
        """Perform one action for one agent and apply its outcome to the agent's life."""
        record = self._agents.with_key(agent) if action in {Action.ASK, Action.RENEW} else None
        record = record or self._agents.get(agent)
        if record is None:
            return
        issued: Issued | None = None
        try:
            outcome = self._handlers[action](record)
            event, issued = outcome if isinstance(outcome, tuple) else (outcome, None)
        except OstiaryError as exc:
            event = _event_of(exc, action)
            _log.warning(
                "authority-refused-or-failed",
                extra={"agent": agent, "action": action.value, "kind": exc.kind, "problem": exc.message},
            )
        except Exception:  # noqa: BLE001 - a fault of ours must not leave the agent without an outcome
            _log.exception("unexpected-exception", extra={"agent": agent, "action": action.value})
            event = Unavailable()
        self._agents.apply(agent, event, issued=issued)

    # --- one for each action ---

    def _ask(self, record: Record) -> tuple[Event, Issued]:
        generation = _upcoming(record)
        wanted = _wanted(record, generation)
        if record.spawn is None:
            issued = self._authority.redeem(self._tokens[record.agent], generation.keys.csr_der, wanted)
            return SignedPending(not_before=issued.not_before, not_after=issued.not_after), issued
        request = SpawnRequest(
            wanted=wanted, csr_der=generation.keys.csr_der, spawner_serial=self._spawner_serial(record)
        )
        issued = self._authority.spawn(self._manager(), request)
        return SignedActive(not_before=issued.not_before, not_after=issued.not_after), issued

    def _spawner_serial(self, record: Record) -> SerialHex:
        """Return the spawner's current serial: it may have been renewed since it asked."""
        if record.spawn is None:
            raise AssertionError("a bootstrap agent has no spawner")
        spawner = self._agents.get(record.spawn.spawner)
        issued = spawner.current.issued if spawner and spawner.current else None
        return issued.serial if issued else record.spawn.spawner_serial

    def _renew(self, record: Record) -> tuple[Event, Issued]:
        if record.current is None:
            raise AssertionError("there is nothing to renew")
        generation = _upcoming(record)
        issued = self._authority.renew(
            record.current.identity_pem, generation.keys.csr_der, _wanted(record, generation)
        )
        return SignedPending(not_before=issued.not_before, not_after=issued.not_after), issued

    def _prove(self, record: Record) -> Event:
        generation = _upcoming(record)
        if generation.issued is None:
            raise AssertionError("there is nothing to prove")
        identity_pem = generation.identity_pem
        status = self._authority.status(identity_pem)
        # An operator may have confirmed the node meanwhile (`ca confirm`); then no dial-back is needed.
        if status != "active":
            status = self._authority.prove(identity_pem, generation.issued.serial)
        return Proven() if status == "active" else Unavailable()

    def _use(self, record: Record) -> Event:
        # The first request under a renewed certificate activates it at the authority, and supersedes the one
        # before. Only then is it delivered, so an agent never holds a certificate that is not active.
        status = self._authority.status(_upcoming(record).identity_pem)
        return Proven() if status == "active" else Unavailable()

    def _retire(self, record: Record) -> Event:
        for serial in serials(record):
            try:
                self._authority.retire(self._manager(), serial)
            except (Conflict, NotFound):
                continue  # it has ended already
            except Forbidden as exc:
                # A refusal with a field concerns the manager's own certificate. Without one, the agent's was
                # revoked before: revoking one generation revokes its whole lineage.
                if exc.rule != "certificate-revoked" or exc.field is not None:
                    raise
        return Retired()

    def _manager(self) -> bytes:
        """Return the manager's own key and chain (PEM); Busy until its certificate carries capabilities."""
        record = self._agents.get(self._agents.node.manager)
        if record is None or record.current is None or not delivers(record.life):
            raise Busy("the manager has no certificate of its own yet")
        return record.current.identity_pem


def _upcoming(record: Record) -> Generation:
    if record.upcoming is None:
        raise AssertionError("there is no key for the next generation")
    return record.upcoming


def _wanted(record: Record, generation: Generation) -> Wanted:
    return Wanted(
        names=record.names,
        spki_der=generation.keys.spki_der,
        endpoints=record.endpoints,
        capabilities=record.capabilities,
    )


def _is_about_the_manager(exc: OstiaryError, action: Action) -> bool:
    """Whether the authority rejected the manager's certificate, not the agent's request."""
    # ASK and RETIRE authenticate as the manager; all other actions use the agent's own certificate.
    if action not in {Action.ASK, Action.RETIRE}:
        return False
    return exc.field == "certificate" or (isinstance(exc, Forbidden) and exc.rule in _NOT_THE_MANAGER)


def _event_of(exc: OstiaryError, action: Action) -> Event:
    if _is_about_the_manager(exc, action):
        return Unavailable()
    match exc:
        case Busy() | InternalFault() | Misconfigured():
            return Unavailable()
        # Refusals of our own checks (`certmgr.issued`, `certmgr.est_client`): a wrong clock or a stranger at
        # the authority's address may be gone at the next try.
        case Forbidden(rule="server-certificate" | "validity" | "unknown"):
            return Unavailable()
        case Forbidden(rule=rule) if rule in _LATER:
            return Unavailable()
        case Forbidden(rule=rule) if action in {Action.PROVE, Action.USE}:
            return Refused() if rule in _FINAL_RULES else Unavailable()
        case Unauthenticated() if action is Action.RETIRE:
            return Unavailable()
        case Unauthenticated() | Forbidden() | NotFound() | Conflict() | BadInput():
            return Refused()
        case _:
            return Unavailable()
