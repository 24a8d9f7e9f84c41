"""An agent's side of the key retention service: get its key by request_key(2), from a session of its own.

Rules:
- Join a session before threads start; the key then is this process's and its children's, nobody else's.
- The claim token goes as callout and only the first time; afterwards b"": the manager knows the requester by
  then.
- `prefix` is for a private layout (`keyutils.layout`); agents' keys always begin with PREFIX.
- A key has a timeout: asking again after it simply starts the next upcall.
- EKEYREJECTED: a bad or spent token. EKEYREVOKED: the agent is revoked. EAGAIN: no manager answered, try
  again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keyutils import keyring

if TYPE_CHECKING:
    from keyutils.keyring import KeySerial

TYPE = "user"
PREFIX = "ostiary:"


def join_session() -> KeySerial:
    """Give this thread, and what it starts from now on, an anonymous session keyring that holds its keys."""
    serial = keyring.join_session()
    keyring.keep_requested_keys_in_session()
    return serial


def request(agent: str, callout: bytes = b"", *, prefix: str = PREFIX) -> bytes:
    """Return the agent's payload, from the session or by an upcall; raises KeyringError (see above)."""
    return keyring.read(keyring.request_key(TYPE, prefix + agent, callout))


def find(agent: str, *, prefix: str = PREFIX) -> KeySerial | None:
    """Return the key that is held already, without an upcall."""
    try:
        return keyring.request_key(TYPE, prefix + agent, None)
    except (keyring.NoSuchKey, keyring.KeyExpired, keyring.KeyRevoked, keyring.KeyRejected):
        return None


def forget(agent: str, *, prefix: str = PREFIX) -> None:
    """Drop the held key, so that the next request gets a new one."""
    serial = find(agent, prefix=prefix)
    if serial is not None:
        keyring.invalidate(serial)
