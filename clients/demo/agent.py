"""An agent of the demonstration: it claims its key, has requests signed, and sends them to the provider.

It reads one JSON object per line and answers each with one:

    {"agent", "claim_token"}                           the first line, from its spawner; no answer
    {"do": "claim", "socket"}                          -> {"agent", "via"}
    {"do": "service", "url", "address", "credential"}  -> {}; "sign" and "send" use these from now on
    {"do": "sign", "operation", "request"}             -> {"release", "entry", ...}
    {"do": "use", "credential", "operation", "request"}
                                                       -> the same, with another credential
    {"do": "send", "method", "url", "body"}            -> {"status"}, of the provider's response

A refusal is {"error", "kind", "rule"}.
"""

from __future__ import annotations

import hashlib
import json
import ssl
import sys
import urllib.error
import urllib.request
from typing import Any

import msgspec

from certmgr.client import Claimed, ManagerError, claim, claim_by_keyring, make_context, upcall_reaches
from credsvc.client import SigningClient
from keyutils.agent_keys import join_session
from ostiary.demo.provider import REGION
from ostiary.errors import OstiaryError


class Agent:
    """One agent: its claim, the certificate that it got, and the service that it uses."""

    def __init__(self, first_line: str) -> None:
        given = json.loads(first_line)
        self._agent, self._token = given["agent"], given["claim_token"]
        self._claimed: Claimed | None = None
        self._service: SigningClient | None = None
        self._credential = ""

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Perform one order."""
        match question["do"]:
            case "claim":
                return self._claim(question["socket"])
            case "service":
                return self._choose(question["url"], question["address"], question["credential"])
            case "sign":
                return self._sign(self._credential, question["operation"], question["request"])
            case "use":
                return self._sign(question["credential"], question["operation"], question["request"])
            case "send":
                return {"status": self._send(question["method"], question["url"], question["body"].encode())}
            case _:
                return {"error": "unknown question"}

    def _claim(self, socket_path: str) -> dict[str, Any]:
        by_kernel = upcall_reaches(socket_path)
        if by_kernel:
            # A session of its own first: a key in the spawner's session would be the spawner's, too.
            join_session()
            self._claimed = claim_by_keyring(self._agent, self._token)
        else:
            self._claimed = claim(socket_path, self._token)
        return {"agent": self._claimed.agent, "via": "request_key" if by_kernel else "socket"}

    def _choose(self, url: str, address: list[Any], credential: str) -> dict[str, Any]:
        if self._claimed is None:
            raise AssertionError("'claim' must come before 'service'")
        context = make_context(self._claimed, ssl.PROTOCOL_TLS_CLIENT)
        self._service = SigningClient(url, context, address=(address[0], address[1]))
        self._credential = credential
        return {}

    def _sign(self, credential: str, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        if self._service is None:
            raise AssertionError("'service' must come before 'sign'")
        signed: dict[str, Any] = msgspec.to_builtins(self._service.use(credential, operation, request))
        return signed

    def _send(self, method: str, url: str, body: bytes) -> int:
        """Have a request signed, and send it to the provider with the released headers."""
        # The service sees the body's digest only: SigV4 signs x-amz-content-sha256, not the body itself.
        payload = hashlib.sha256(body).hexdigest()
        request = {"method": method, "url": url, "headers": {}, "payload_sha256": payload}
        signed = self._sign(self._credential, "sign", {**request, "region": REGION, "service": "s3"})[
            "release"
        ]
        # A release names where each value belongs: "header.authorization" is the header Authorization.
        headers = {name.removeprefix("header."): value for name, value in signed.items()}
        sent = urllib.request.Request(url, data=body, method=method, headers=headers)  # noqa: S310 - loopback
        try:
            with urllib.request.urlopen(sent, timeout=10) as answer:  # noqa: S310 - loopback
                status: int = answer.status
                return status
        except urllib.error.HTTPError as exc:
            # A refusal by the provider is an answer, too: urllib raises it as a response.
            with exc:
                return exc.code


def main() -> None:
    """Answer until the input ends."""
    agent = Agent(sys.stdin.readline())
    for line in sys.stdin:
        try:
            answer = agent.answer(json.loads(line))
        except OstiaryError as exc:
            answer = {"error": exc.message, "kind": exc.kind, "rule": getattr(exc, "rule", None)}
        except ManagerError as exc:
            answer = {"error": str(exc), "kind": exc.kind, "rule": exc.rule}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
