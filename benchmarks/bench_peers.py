"""Ours beside what others made, in one run on one machine: ratios, in turn, ROUNDS times.

    PEERS=dir make bench ARGS=peers         # dir has step-ca and bao (benchmarks/peers/README.md)

- Certificates at eight clients: ours, step-ca's, OpenBao's stored ones.
- Signatures at one and sixteen clients, and in batches: ours, and HMACs of OpenBao's transit engine with its
  audit device.
- The front's CPU, and an empty asgi application's under the same load.

The ratio of a row is the median of those of the rounds, since the machine's speed changes from round to
round.
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks.issuing import MADE_PER_S, Issuing
from benchmarks.load import ROUNDS, SECONDS, Measured
from benchmarks.peers.empty_asgi import EmptyASGI
from benchmarks.peers.openbao import OpenBao
from benchmarks.peers.server import find
from benchmarks.peers.step_ca import StepCA
from benchmarks.signing import BATCH, BATCHED, WARM, Signing
from benchmarks.table import Row, print_table
from tests.support.ca_service import running_ca
from tests.support.credential_service import running

WARM_S = 2.0
ISSUERS, SIGNERS, BATCHING = 8, 16, 4
OURS, STEP, BAO, EMPTY = "ours", "step-ca", "OpenBao", "empty application"
CERTIFICATES, SIGNATURES, ALONE = "certificates", "signatures", "one client's signatures"
BATCHES, FRONT = f"batches of {BATCH}", "front"
_COUNT = int(SECONDS * MADE_PER_S)


def rate(done: Measured) -> float:
    return done.rate_per_s


def item_rate(done: Measured) -> float:
    return done.rate_per_s * BATCH


def p50(done: Measured) -> float:
    return done.percentile_ms(50)


def p99(done: Measured) -> float:
    return done.percentile_ms(99)


def cpu(done: Measured) -> float:
    return done.cpu_us()


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """What of ours is compared with whose; `their_value` is `value` unless it is given."""

    name: str
    ours: str
    theirs: tuple[str, str]
    value: Callable[[Measured], float]
    their_value: Callable[[Measured], float] | None = None
    at_least: float | None = None
    at_most: float | None = None


def certificates(who: str, *, at_least: float) -> Iterator[Ratio]:
    """Ours and somebody's certificates."""
    theirs = (CERTIFICATES, who)
    yield Ratio(name=f"certificates / {who}", ours=CERTIFICATES, theirs=theirs, value=rate, at_least=at_least)
    yield Ratio(name=f"certificates, p99 / {who}", ours=CERTIFICATES, theirs=theirs, value=p99, at_most=1.0)
    yield Ratio(name=f"certificates, CPU / {who}", ours=CERTIFICATES, theirs=theirs, value=cpu)


def signatures() -> Iterator[Ratio]:
    """Our signatures and OpenBao's HMACs."""
    theirs, name = (SIGNATURES, BAO), f"{BAO}'s HMACs"
    yield Ratio(name=f"signatures / {name}", ours=SIGNATURES, theirs=theirs, value=rate, at_least=1.0)
    yield Ratio(name=f"signatures, CPU / {name}", ours=SIGNATURES, theirs=theirs, value=cpu)
    yield Ratio(name=f"one client, p50 / {name}", ours=ALONE, theirs=(ALONE, BAO), value=p50, at_most=2.0)
    yield Ratio(
        name=f"signatures in batches / {name}",
        ours=BATCHES,
        theirs=theirs,
        value=item_rate,
        their_value=rate,
        at_least=2.5,
    )


RATIOS = (*certificates(STEP, at_least=1.2), *certificates(BAO, at_least=2.0), *signatures())


@dataclass(frozen=True, kw_only=True)
class Field:
    """Whoever takes part; a peer whose program is not there is None."""

    issuing: Issuing
    signing: Signing
    empty: EmptyASGI
    step: StepCA | None
    bao: OpenBao | None


@dataclass(kw_only=True)
class Results:
    """What was measured in each round, by what was done and by whom; `policy_us` is a signature's policy."""

    by_name: dict[tuple[str, str], list[Measured]] = field(default_factory=lambda: defaultdict(list))
    policy_us: list[float] = field(default_factory=list)

    def add(self, what: str, who: str, done: Measured) -> None:
        """Note and print one load."""
        self.by_name[what, who].append(done)
        told = f"{done.told()}, CPU of all its processes {done.cpu_us():.0f} us"
        print(f"  {what:24} {who:18} {told}", flush=True)

    def rows(self) -> list[Row]:
        """The ratios, as far as both sides were measured, after our own numbers."""
        own = [
            ("certificates, 8 clients", CERTIFICATES, rate, "/s"),
            ("certificates, 8 clients, p99", CERTIFICATES, p99, "ms"),
            ("signatures, 16 clients", SIGNATURES, rate, "/s"),
            ("one client's signature, p50", ALONE, p50, "ms"),
        ]
        rows = [
            Row(name=name, measured=statistics.median(map(value, self.by_name[what, OURS])), unit=unit)
            for name, what, value, unit in own
        ]
        for ratio in RATIOS:
            their_value = ratio.their_value or ratio.value
            pairs = zip(self.by_name[ratio.ours, OURS], self.by_name[ratio.theirs], strict=False)
            found = [ratio.value(ours) / their_value(theirs) for ours, theirs in pairs]
            rows += _row(ratio.name, found, at_least=ratio.at_least, at_most=ratio.at_most)
        return rows + self._front()

    def _front(self) -> list[Row]:
        fronts = [done.cpu_us("front") for done in self.by_name[SIGNATURES, OURS]]
        empties = [done.cpu_us() for done in self.by_name[FRONT, EMPTY]]
        each = list(zip(fronts, self.policy_us, empties, strict=True))
        told = [f"{statistics.median(values):.0f}" for values in zip(*each, strict=True)]
        print("a signature's front {} us, of that policy {} us; an empty application {} us".format(*told))
        found = [(front - policy) / empty for front, policy, empty in each]
        return _row("front without policy / empty application", found, at_most=2.0)


def _row(
    name: str, found: list[float], *, at_least: float | None = None, at_most: float | None = None
) -> list[Row]:
    if not found:
        return []
    rounds = f"({', '.join(f'{each:.2f}' for each in found)})"
    measured = statistics.median(found)
    return [Row(name=name, measured=measured, unit=rounds, at_least=at_least, at_most=at_most)]


def play(players: Field, results: Results, *, has_batches: bool) -> None:
    """One round: each in turn, ours first."""
    results.add(CERTIFICATES, OURS, players.issuing.load(clients=ISSUERS))
    for peer in (players.step, players.bao):
        if peer is not None:
            results.add(CERTIFICATES, peer.name, peer.issue(clients=ISSUERS, count=_COUNT))
    before, _ = players.signing.stages()
    done = players.signing.load(clients=SIGNERS)
    after, _ = players.signing.stages()
    results.policy_us.append(after.per_request_us(before, "policy", int(after.passes(before, "sandbox"))))
    results.add(SIGNATURES, OURS, done)
    if players.bao is not None:
        results.add(SIGNATURES, BAO, players.bao.hmac(clients=SIGNERS))
    results.add(ALONE, OURS, players.signing.load(clients=1))
    if players.bao is not None:
        results.add(ALONE, BAO, players.bao.hmac(clients=1))
    if has_batches:
        results.add(BATCHES, OURS, players.signing.load(clients=BATCHING, request=BATCHED))
    results.add(FRONT, EMPTY, players.empty.load(clients=SIGNERS))


def main() -> int:
    """Print each round and the ratios; 1 where a ratio is beyond what docs/performance.md explains."""
    step, bao = find("step-ca"), find("bao")
    for name, program in (("step-ca", step), ("bao", bao)):
        if program is None:
            print(f"no {name} in PEERS: it takes no part (benchmarks/peers/README.md)")
    with ExitStack() as stack:
        enter = stack.enter_context
        players = Field(
            issuing=Issuing(enter(running_ca()), managers=1),
            signing=Signing(enter(running()), agents=1),
            empty=enter(EmptyASGI()),
            step=enter(StepCA(step)) if step is not None else None,
            bao=enter(OpenBao(bao)) if bao is not None else None,
        )
        players.signing.service.set_policy(WARM)
        players.issuing.load(clients=ISSUERS, seconds=WARM_S)
        players.signing.load(clients=SIGNERS, seconds=WARM_S)
        has_batches = players.signing.has_batches()
        if not has_batches:
            print(f"batches of {BATCH}: our service takes none yet")
        results = Results()
        for number in range(ROUNDS):
            print(f"round {number + 1}")
            play(players, results, has_batches=has_batches)
    return print_table(results.rows())


if __name__ == "__main__":
    sys.exit(main())
