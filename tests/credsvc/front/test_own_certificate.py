"""The front's own certificate: claimed with the token in a memfd, replaced by what the manager has newer."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from credsvc.front import own_certificate
from credsvc.front.own_certificate import (
    OwnCertificate,
    claim_from_manager,
    claim_patiently,
    read_claim_token,
)
from ostiary.edge.claim import Claimed
from ostiary.errors import Busy, Misconfigured, Unauthenticated
from tests.support.identities import Authority
from tests.support.stand_ins import ClaimManager, claimed_json

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


def test_a_newer_certificate_replaces_both_contexts_at_once() -> None:
    answers = [claimed()]
    own = OwnCertificate(lambda: answers[-1], root=AUTHORITY.pem)
    tls, context = own.tls(), own.client_context()
    own.ask_again()
    assert (own.tls(), own.client_context()) == (tls, context)
    answers.append(claimed())
    own.ask_again()
    assert own.tls() is not tls
    assert own.client_context() is not context


def test_a_manager_that_does_not_answer_leaves_the_old_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, stop = threading.Event(), threading.Event()
    answers: list[Claimed] = [claimed()]

    def once() -> Claimed:
        if not answers:
            asked.set()
            raise Busy("the manager is away")
        return answers.pop()

    own = OwnCertificate(once, root=AUTHORITY.pem)
    tls = own.tls()
    monkeypatch.setattr(own_certificate, "ASK_AGAIN_S", 0.001)
    thread = threading.Thread(target=own.keep_fresh, args=(stop,))
    thread.start()
    assert asked.wait(60)
    stop.set()
    thread.join(60)
    assert not thread.is_alive()
    assert own.tls() is tls


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
