"""The front's composition: where its feed of revocations comes from, and when it serves nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from credsvc.front import role
from credsvc.front.own_certificate import OwnCertificate
from credsvc.front.role import _Worker, revocation_feed
from credsvc.front.stages import STAGES
from credsvc.home import place_of
from ostiary.edge.home import ServiceHome
from ostiary.edge.http_client import HTTPClient
from ostiary.edge.metrics import Metrics
from ostiary.edge.tls import client_context
from ostiary.edge.users import RoleUsers
from ostiary.errors import Misconfigured, OstiaryError
from tests.credsvc.test_config import CONFIG
from tests.support.identities import Authority
from tests.support.stand_ins import CA_NAME, RevocationCA


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
        revocation_feed(config, own(Authority()))


def test_a_ca_address_that_is_none_is_named() -> None:
    config = msgspec.structs.replace(CONFIG, ca_address="127.0.0.1")
    with pytest.raises(OstiaryError, match="ca_address"):
        revocation_feed(config, own(Authority()))


def test_the_feed_is_the_cas_at_the_address_under_the_urls_name(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[HTTPClient] = []

    class KeptClient(HTTPClient):
        """One that the test can close: a worker's lives as long as the worker."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr("credsvc.front.role.HTTPClient", KeptClient)
    authority = Authority()
    ca = RevocationCA(authority)
    try:
        config = msgspec.structs.replace(
            CONFIG, ca_url=f"https://{CA_NAME}", ca_address=f"127.0.0.1:{ca.port}"
        )
        ask = revocation_feed(config, own(authority))
        ca.revoke("0a")
        page = ask(since=0, wait_s=0)
        assert (page.next, [line.serial for line in page.revoked]) == (1, ["0a"])
        assert ask(since=1, wait_s=0).revoked == ()
    finally:
        for client in made:
            client.close()
        ca.close()


def test_a_ca_of_another_root_is_not_heard() -> None:
    ca = RevocationCA(Authority())
    try:
        config = msgspec.structs.replace(
            CONFIG, ca_url=f"https://{CA_NAME}", ca_address=f"127.0.0.1:{ca.port}"
        )
        with pytest.raises(OstiaryError):
            revocation_feed(config, own(Authority()))(since=0, wait_s=0)
    finally:
        ca.close()


def test_a_worker_that_has_not_started_serves_nothing(tmp_path: Path) -> None:
    place = place_of(CONFIG, ServiceHome(tmp_path), RoleUsers(base=None))
    metrics = Metrics(stages=STAGES, counters=("denied",), processes=1)
    worker = _Worker(config=CONFIG, place=place, claim_fd=-1, metrics=metrics)
    with pytest.raises(AssertionError):
        worker.tls()
    with pytest.raises(AssertionError):
        worker.make_app()
    worker.stop()


def test_a_front_that_its_supervisor_did_not_start_says_what_it_lacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(role, "load_place", lambda _path: (None, None))
    monkeypatch.delenv("OSTIARY_CREDSVC_CLAIM_FD", raising=False)
    monkeypatch.setenv("OSTIARY_CREDSVC_LISTEN", "127.0.0.1:1")
    with pytest.raises(Misconfigured, match="OSTIARY_CREDSVC_CLAIM_FD is not set"):
        role.run(tmp_path)
