"""The front's own certificate: claimed with the token in a memfd, replaced by what the manager has newer."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from credsvc.front import own_certificate
from credsvc.front.own_certificate import (
    Claim,
    OwnCertificate,
    claim_from_manager,
    claim_patiently,
    read_claim_token,
)
from ostiary.edge.claim import Claimed
from ostiary.errors import Busy, Misconfigured, Unauthenticated
from ostiary.front.offload import Offload
from tests.support.identities import Authority
from tests.support.stand_ins import ClaimManager, claimed_json
from tests.support.waiting import PATIENCE_S, until

AUTHORITY = Authority()


@contextmanager
def memfd(content: bytes) -> Iterator[int]:
    fd = os.memfd_create("claim")
    try:
        os.write(fd, content)
        yield fd
    finally:
        os.close(fd)


def claimed() -> Claimed:
    """What a manager answers, for a certificate made now."""
    answer = claimed_json(AUTHORITY.agent("credentials-service"))
    return Claimed(key=answer["key"], chain=answer["chain"], root=answer["root"])


def test_a_token_is_read_by_every_worker_again() -> None:
    with memfd(b"  a token\n") as fd:
        assert [read_claim_token(fd).reveal() for _ in range(2)] == [b"a token"] * 2


def test_without_a_token_the_operator_is_told_how_to_start() -> None:
    with memfd(b" \n") as empty, pytest.raises(Misconfigured, match="empty"):
        read_claim_token(empty)
    with pytest.raises(Misconfigured, match="--claim"):
        read_claim_token(1 << 20)


def test_a_claim_takes_key_and_chain_from_the_managers_socket(tmp_path: Path) -> None:
    agent = AUTHORITY.agent("credentials-service")
    manager = ClaimManager(tmp_path / "m", token="a token", agent=lambda: agent)
    try:
        with memfd(b"a token") as fd:
            assert claim_from_manager(tmp_path / "m", fd)() == Claimed(
                **{name: claimed_json(agent)[name] for name in ("key", "chain", "root")}
            )
        with memfd(b"another token") as fd, pytest.raises(Unauthenticated):
            claim_from_manager(tmp_path / "m", fd)()
    finally:
        manager.close()


@asynccontextmanager
async def begun(once: Claim) -> AsyncIterator[OwnCertificate]:
    """One that has claimed for the first time."""
    offload = Offload(threads=1)
    own = OwnCertificate(once, root=AUTHORITY.pem, offload=offload)
    await own.begin()
    yield own
    offload.close()


def test_a_newer_certificate_replaces_both_contexts_at_once() -> None:
    async def story() -> None:
        answers = [claimed()]
        async with begun(lambda: answers[-1]) as own:
            tls, context = own.tls(), own.client_context()
            await own.ask_again()
            assert (own.tls(), own.client_context()) == (tls, context)
            answers.append(claimed())
            await own.ask_again()
            assert own.tls() is not tls
            assert own.client_context() is not context

    asyncio.run(story())


def test_a_manager_that_does_not_answer_leaves_the_old_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    answers: list[Claimed] = [claimed()]
    refused: list[int] = []

    def once() -> Claimed:
        if not answers:
            refused.append(1)
            raise Busy("the manager is away")
        return answers.pop()

    async def story() -> None:
        async with begun(once) as own:
            tls = own.tls()
            task = asyncio.create_task(own.keep_fresh())
            await asyncio.to_thread(until, lambda: len(refused) > 1)
            assert own.tls() is tls
            assert not task.done()
            task.cancel()

    monkeypatch.setattr(own_certificate, "ASK_AGAIN_S", 0)
    asyncio.run(asyncio.wait_for(story(), PATIENCE_S))


def test_what_was_not_claimed_yet_serves_nothing() -> None:
    own = OwnCertificate(claimed, root=AUTHORITY.pem, offload=Offload(threads=1))
    for ask in (own.tls, own.client_context):
        with pytest.raises(AssertionError, match="nothing was claimed"):
            ask()


def test_at_a_nodes_first_start_the_claim_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_certificate, "_PAUSE_S", 0)
    answers: list[Claimed | None] = [claimed(), None, None]

    def once() -> Claimed:
        answer = answers.pop()
        if answer is None:
            raise Busy("the certificate is on its way")
        return answer

    assert claim_patiently(once).chain
    assert not answers


def test_it_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(own_certificate, "FIRST_CLAIM_S", 0)

    def once() -> Claimed:
        raise Busy("the certificate is on its way")

    with pytest.raises(Busy):
        claim_patiently(once)


def test_a_refused_claim_is_not_repeated() -> None:
    calls: list[int] = []

    def once() -> Claimed:
        calls.append(1)
        raise Unauthenticated("the token is not known")

    with pytest.raises(Unauthenticated):
        claim_patiently(once)
    assert calls == [1]
