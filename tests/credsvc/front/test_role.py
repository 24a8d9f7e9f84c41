"""The front's composition: where its feed of revocations comes from, and when it serves nothing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any, Self, cast

import msgspec
import pytest

from credsvc.front import role
from credsvc.front.own_certificate import OwnCertificate
from credsvc.front.role import RevocationFeed
from ostiary.edge.tls import client_context
from ostiary.errors import Busy, Misconfigured, OstiaryError
from tests.credsvc.test_config import CONFIG
from tests.support.identities import Authority
from tests.support.stand_ins import CA_NAME, RevocationCA
from tests.support.waiting import PATIENCE_S, until


class Identified:
    """An own certificate of which only the context towards the CA is asked for."""

    def __init__(self, authority: Authority) -> None:
        agent = authority.agent("credentials-service")
        self._context = client_context(authority.pem, agent.identity_pem)

    def client_context(self) -> Any:
        return self._context


def own(authority: Authority) -> OwnCertificate:
    return cast("OwnCertificate", Identified(authority))


@pytest.mark.parametrize("url", ["http://ca.shop.example", "ca.shop.example:8443", "https://"])
def test_a_ca_url_that_is_none_is_named(url: str) -> None:
    config = msgspec.structs.replace(CONFIG, ca_url=url)
    with pytest.raises(OstiaryError, match="ca_url"):
        RevocationFeed(config, own(Authority()))


def test_a_ca_address_that_is_none_is_named() -> None:
    config = msgspec.structs.replace(CONFIG, ca_address="127.0.0.1")
    with pytest.raises(OstiaryError, match="ca_address"):
        RevocationFeed(config, own(Authority()))


class Listening:
    """A CA, and the feed of a service whose certificate is of the root `trusted`."""

    def __init__(self, authority: Authority, trusted: Authority) -> None:
        self.ca = RevocationCA(authority)
        config = msgspec.structs.replace(
            CONFIG, ca_url=f"https://{CA_NAME}", ca_address=f"127.0.0.1:{self.ca.port}"
        )
        self.feed = RevocationFeed(config, own(trusted))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_exc: object) -> None:
        await self.feed.close()
        self.ca.close()


def test_the_feed_is_the_cas_at_the_address_under_the_urls_name() -> None:
    async def story() -> None:
        authority = Authority()
        async with Listening(authority, authority) as listening:
            listening.ca.revoke("0a")
            page = await listening.feed.ask(since=0, wait_s=0)
            assert (page.next, [line.serial for line in page.revoked]) == (1, ["0a"])
            assert (await listening.feed.ask(since=1, wait_s=0)).revoked == ()

    asyncio.run(story())


def test_a_ca_of_another_root_is_not_heard() -> None:
    async def story() -> None:
        async with Listening(Authority(), Authority()) as listening:
            with pytest.raises(OstiaryError):
                await listening.feed.ask(since=0, wait_s=0)

    asyncio.run(story())


def test_a_front_that_stops_leaves_no_poll_waiting() -> None:
    async def story() -> None:
        authority = Authority()
        async with Listening(authority, authority) as listening:
            await listening.feed.ask(since=0, wait_s=0)
            waiting = asyncio.create_task(listening.feed.ask(since=0, wait_s=int(10 * PATIENCE_S)))
            await asyncio.to_thread(until, lambda: listening.ca.waiting)
        with pytest.raises(Busy):
            await waiting

    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_a_front_that_its_supervisor_did_not_start_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "load_place", lambda _path: (None, None))
    monkeypatch.delenv("OSTIARY_CREDSVC_CLAIM_FD", raising=False)
    monkeypatch.setenv("OSTIARY_CREDSVC_LISTEN", "127.0.0.1:1")
    with pytest.raises(Misconfigured, match="OSTIARY_CREDSVC_CLAIM_FD is not set"):
        role.run(tmp_path)
