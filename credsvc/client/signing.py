"""A small client of the credentials service, for agents in Python: ask for a signature, get it, never the
secret.

    client = SigningClient("https://credentials.nodes.shop.example:8444", context)
    signed = client.use("billing-aws", "sign", {"method": "GET", "url": ..., "region": ..., "service": "s3"})
    signed.release["header.authorization"]

The TLS context carries the agent's key and certificate (`ostiary.edge.tls.client_context`, or certmgr's own
client). It may be a function, which is asked at each new connection, so that a renewed certificate is used.
Thread-safe: each call in progress has a connection of its own, and there are never more of them than there
were calls at once, however many threads come and go.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import msgspec

from ostiary.edge.http_client import HTTPClient, tls_connector
from ostiary.errors import Misconfigured

TIMEOUT_S: Final = 10.0
_DEFAULT_PORT: Final = 443


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


def _path(credential: str, operation: str) -> str:
    return f"/v1/credentials/{quote(credential, safe='')}/operations/{quote(operation, safe='')}"
