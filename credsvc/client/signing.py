"""A small client of the credentials service, for agents in Python: ask for a signature, get it, never the
secret.

    client = SigningClient("https://credentials.nodes.shop.example:8444", context)
    signed = client.use("billing-aws", "sign", {"method": "GET", "url": ..., "region": ..., "service": "s3"})
    signed.release["header.authorization"]
    for each in client.sign_many("billing-aws", "sign", requests): ...    # Signed, or an OstiaryError

The TLS context carries the agent's key and certificate (`ostiary.edge.tls.client_context`, or certmgr's own
client). It may be a function, which is asked at each new connection, so that a renewed certificate is used.
Thread-safe: each call in progress has a connection of its own, and there are never more of them than there
were calls at once, however many threads come and go.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from ostiary.edge.http_client import HTTPClient, error_of_problem, tls_connector
from ostiary.edge.problems import Problem
from ostiary.errors import BadInput, InternalFault, Misconfigured, OstiaryError

TIMEOUT_S: Final = 10.0
_DEFAULT_PORT: Final = 443
# What the service takes in one call (docs/openapi.yaml), with room for the braces around it.
_MAX_BATCH: Final = 256
_MAX_BATCH_BYTES: Final = (1 << 20) - 64


class Signed(msgspec.Struct, frozen=True, kw_only=True):
    """What a formula released: text by sink (`header.authorization`, `query.sig`), and the index of the
    ledger's entry.
    """

    release: dict[str, str]
    formula: str
    entry: int
    rule: str

    def headers(self) -> dict[str, str]:
        """The released headers by name."""
        return {
            sink.removeprefix("header."): text
            for sink, text in self.release.items()
            if sink.startswith("header.")
        }


class Explanation(msgspec.Struct, frozen=True, kw_only=True):
    """What would be signed."""

    formula: str
    holes: dict[str, Any]
    bindings: dict[str, str]
    rule: str


class _Result(msgspec.Struct, frozen=True, kw_only=True):
    """One result of a batch: what was released, or a problem."""

    release: dict[str, str] | None = None
    formula: str = ""
    entry: int = 0
    rule: str = ""
    problem: Problem | None = None
    retry_after_s: int = 1

    def outcome(self) -> Signed | OstiaryError:
        problem = self.problem
        if problem is not None:
            return error_of_problem(problem, status=problem.status, retry_after_s=self.retry_after_s)
        if self.release is None:
            return InternalFault("malformed result in a batch")
        return Signed(release=self.release, formula=self.formula, entry=self.entry, rule=self.rule)


class _Results(msgspec.Struct, frozen=True, kw_only=True):
    results: tuple[_Result, ...]


class SigningClient:
    """See the module's docstring. `address` (host, port) replaces where to connect; the certificate must
    still name the URL's host.
    """

    def __init__(
        self,
        url: str,
        context: ssl.SSLContext | Callable[[], ssl.SSLContext],
        *,
        address: tuple[str, int] | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "https" or not parts.hostname or parts.path.strip("/"):
            raise Misconfigured(f"'{url}': wanted https://HOST:PORT")
        self._host = parts.hostname
        self._connect = tls_connector(
            address or (parts.hostname, parts.port or _DEFAULT_PORT),
            server_name=parts.hostname,
            context=context if callable(context) else lambda: context,
            timeout_s=TIMEOUT_S,
        )
        # Connections that no call uses, the last used at the end; append and pop of a list are atomic.
        self._idle: list[HTTPClient] = []

    def use(self, credential: str, operation: str, request: Mapping[str, Any]) -> Signed:
        """Apply an operation: Forbidden names the rule, BadInput the field, Busy may be tried again."""
        with self._http() as http:
            return http.call("POST", _path(credential, operation), {"request": request}, type_=Signed)

    def sign_many(
        self, credential: str, operation: str, requests: Iterable[Mapping[str, Any]]
    ) -> list[Signed | OstiaryError]:
        """Apply an operation to many requests, each by itself; the results are in the order of the requests.

        What fails is an error in its place: Forbidden names the rule, BadInput the field, Busy may be tried
        again. They go in as few calls as the service takes; a call that fails is the error of each of its
        requests.
        """
        path = f"{_path(credential, operation)}/batch"
        return [result for part in _divide(requests) for result in self._sign_part(path, part)]

    def _sign_part(self, path: str, part: Sequence[msgspec.Raw]) -> list[Signed | OstiaryError]:
        try:
            with self._http() as http:
                answer = http.call("POST", path, {"requests": part}, type_=_Results)
        except BadInput as exc:
            # The answer would be too large; nothing was signed.
            if exc.field != "requests" or len(part) < 2:
                return [exc] * len(part)
            half = len(part) // 2
            return self._sign_part(path, part[:half]) + self._sign_part(path, part[half:])
        except OstiaryError as exc:
            return [exc] * len(part)
        if len(answer.results) != len(part):
            return [InternalFault("another number of results than of requests")] * len(part)
        return [result.outcome() for result in answer.results]

    def explain(self, credential: str, operation: str, request: Mapping[str, Any]) -> Explanation:
        """Ask what `use` would sign."""
        path = f"{_path(credential, operation)}/explain"
        with self._http() as http:
            return http.call("POST", path, {"request": request}, type_=Explanation)

    def credentials(self) -> list[dict[str, Any]]:
        """What this agent may use, in order of names."""
        found: list[dict[str, Any]] = []
        after = ""
        while True:
            path = f"/v1/credentials?after={quote(after, safe='')}"
            with self._http() as http:
                page: dict[str, Any] = http.call("GET", path, type_=dict[str, Any])
            found += page["credentials"]
            after = page["next_after"] or ""
            if not after:
                return found

    def close(self) -> None:
        """Close all connections; no thread may be in a call. The next call makes a new one."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def _http(self) -> Iterator[HTTPClient]:
        # The last used first: the others grow old, and the server closes them.
        try:
            client = self._idle.pop()
        except IndexError:
            client = HTTPClient(self._connect, host=self._host)
        try:
            yield client
        finally:
            self._idle.append(client)


def _divide(requests: Iterable[Mapping[str, Any]]) -> Iterator[list[msgspec.Raw]]:
    """Encode requests, and divide them into what one call takes."""
    part: list[msgspec.Raw] = []
    size = 0
    for request in requests:
        encoded = msgspec.json.encode(request)
        if part and (len(part) == _MAX_BATCH or size + len(encoded) + 1 > _MAX_BATCH_BYTES):
            yield part
            part, size = [], 0
        part.append(msgspec.Raw(encoded))
        size += len(encoded) + 1
    if part:
        yield part


def _path(credential: str, operation: str) -> str:
    return f"/v1/credentials/{quote(credential, safe='')}/operations/{quote(operation, safe='')}"
