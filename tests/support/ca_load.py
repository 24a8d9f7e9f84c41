"""Speaks to a CA's recorder as its front would: redeems tokens, from many threads, and prints what came of
each (JSON lines).

    python -m tests.support.ca_load HOME/ca TOKEN ATTEMPTS
        every attempt with a key of its own, all with one token
    python -m tests.support.ca_load HOME/ca < tokens
        one token per line, each with one key, again until it is answered

`outcome` is "issued" or the rule of a refusal; an issued one was checked: the signature is the issuing CA's
over the own key.
"""

from __future__ import annotations

import itertools
import json
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from ca.certificates.profile import build_tbs, plan_leaf, serial_number
from ca.certificates.shards import ShardNumber
from ca.home import CAHome
from ca.items import Prepared, Redeem
from ostiary.capabilities import parse_capabilities
from ostiary.certificate import assemble, parse_tbs, serial_hex, spki_der, spki_digest
from ostiary.edge.home import ServiceHome
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import Forbidden
from ostiary.identity import Identity, parse_agent_id, parse_application, parse_node, parse_subsystem
from ostiary.recorder.client import RecorderClient
from ostiary.token import parse_token
from tests.support.patient_client import until_answered

THREADS = 32


class Redeemer:
    """One worker process's way to the recorder."""

    def __init__(self, home: Path) -> None:
        places = ServiceHome(home)
        base = os.environ["OSTIARY_ROLE_UID_BASE"]
        users = RoleUsers(base=int(base) if base else None)
        self.profile = CAHome(places).profile()
        self.issuing = CAHome(places).issuing()
        self.client = RecorderClient(
            places.channel("front"), expected_uids=frozenset({users.uid(RoleName.RECORDER)})
        )

    def prepared(self, agent: str, key: ec.EllipticCurvePrivateKey) -> Prepared:
        identity = Identity(
            application=parse_application("shop.example"),
            subsystem=parse_subsystem("component-harness"),
            node=parse_node("n1.nodes.shop.example"),
            agent=parse_agent_id(agent),
            endpoints=(),
            capabilities=parse_capabilities(["credential:use"]),
        )
        plan = plan_leaf(
            self.profile,
            identity,
            spki_der=spki_der(key.public_key()),
            serial_number=serial_number(secrets.token_bytes(20)),
            now=datetime.now(UTC),
            lifetime=timedelta(hours=2),
            shard=ShardNumber(1),
            pending=False,
        )
        tbs = build_tbs(self.profile, plan)
        return Prepared(
            serial=serial_hex(plan.serial_number),
            subsystem=identity.subsystem,
            node=identity.node,
            agent=agent,
            capabilities=("credential:use",),
            endpoints=(),
            not_before=int(plan.not_before.timestamp()),
            not_after=int(plan.not_after.timestamp()),
            shard=1,
            spki_digest=bytes.fromhex(spki_digest(parse_tbs(tbs))),
            tbs=tbs,
        )

    def redeem(self, made: dict[str, Any], key: ec.EllipticCurvePrivateKey) -> dict[str, Any]:
        """One attempt; raises Busy."""
        token = parse_token(made["token"])
        prepared = self.prepared(made["agent"], key)
        item = Redeem(token_id=token.id, token_digest=token.digest, address="127.0.0.1", certificate=prepared)
        try:
            done = self.client.submit(item)
        except Forbidden as exc:
            return {"outcome": exc.rule}
        tbs = done.substitute or prepared.tbs
        der = assemble(tbs, self.profile.signature_algorithm_der, done.output)
        certificate = x509.load_der_x509_certificate(der)
        self._check(certificate, key)
        return {
            "outcome": "issued",
            "serial": serial_hex(certificate.serial_number),
            "index": done.index,
            "token": token.id,
        }

    def _check(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        issuer = self.issuing.public_key()
        assert isinstance(issuer, ec.EllipticCurvePublicKey)
        issuer.verify(certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256()))
        assert certificate.public_key() == key.public_key(), "another's certificate"

    def until_answered(self, made: dict[str, Any]) -> dict[str, Any]:
        """One token with one key, again after Busy."""
        key = ec.generate_private_key(ec.SECP256R1())
        tries = itertools.count(1)
        return until_answered(lambda: {"tries": next(tries), **self.redeem(made, key)})


def main() -> None:
    redeemer = Redeemer(Path(sys.argv[1]))
    work: list[Callable[[], dict[str, Any]]]
    if len(sys.argv) > 2:
        made, attempts = json.loads(sys.argv[2]), int(sys.argv[3])
        work = [lambda: redeemer.until_answered(made) for _ in range(attempts)]
    else:
        tokens = [json.loads(line) for line in sys.stdin]
        work = [lambda each=each: redeemer.until_answered(each) for each in tokens]  # type: ignore[misc]
    printing = threading.Lock()

    def run(one: Callable[[], dict[str, Any]]) -> None:
        line = json.dumps(one())
        with printing:
            sys.stdout.write(f"{line}\n")

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(run, work))


if __name__ == "__main__":
    main()
