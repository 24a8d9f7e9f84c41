"""An agent's side of the upcall: get its key by request_key(2), into a session of its own.

Rules:
- Join a session before threads start; then only this process and its children have the key.
- The claim token travels as callout, and only the first time; afterwards the callout is b"", as the manager
  recognises the requester.
- `prefix` is for a private layout (`keyutils.layout`); the keys of agents always begin with PREFIX.
- A key has a timeout; the first request after it starts the next upcall.
- EKEYREJECTED: a bad or spent token. EKEYREVOKED: the agent is revoked. EAGAIN: no manager answered; retry.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyutils import keyring

if TYPE_CHECKING:
    from keyutils.keyring import KeySerial

TYPE = "user"
PREFIX = "ostiary:"


def join_session() -> KeySerial:
    """Give this thread, and what it starts from now on, an anonymous session keyring for its keys."""
    # Anonymous, so nothing can join it by name; what this thread starts inherits it.
    serial = keyring.join_session()
    keyring.keep_requested_keys_in_session()
    return serial


def request(agent: str, callout: bytes = b"", *, prefix: str = PREFIX) -> bytes:
    """Return the agent's payload, from the session or by an upcall; raises KeyringError (see above).

    A hit in the session takes microseconds and never reaches the manager; an upcall takes about 12 ms.
    """
    return keyring.read(keyring.request_key(TYPE, prefix + agent, callout))


def find(agent: str, *, prefix: str = PREFIX) -> KeySerial | None:
    """Return the key that the session already holds, None if it has none; never starts an upcall."""
    try:
        return keyring.request_key(TYPE, prefix + agent, None)
    except (keyring.NoSuchKey, keyring.KeyExpired, keyring.KeyRevoked, keyring.KeyRejected):
        return None


def forget(agent: str, *, prefix: str = PREFIX) -> None:
    """Drop the held key, so the next request gets a new one."""
    # Invalidate, not revoke: request_key(2) goes on finding a revoked key and fails with EKEYREVOKED.
    serial = find(agent, prefix=prefix)
    if serial is not None:
        keyring.invalidate(serial)
