"""Clients that come again when a service is busy, as its answer asks them to.

For tests of what a service does, also where all cores are taken; those of what being busy looks like take
`HTTPClient` itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from credsvc.client import SigningClient
from ostiary.admin.client import AdminClient
from ostiary.edge.http_client import HTTPClient, Response
from ostiary.errors import Busy
from tests.support.waiting import until

T = TypeVar("T")


def until_answered(ask: Callable[[], T]) -> T:
    """What `ask` returns once it isn't refused as Busy any more."""
    answers: list[T] = []
    refusals: list[str] = []

    def is_answered() -> bool:
        try:
            answers.append(ask())
        except Busy as exc:
            refusals.append(exc.message)
        return bool(answers)

    until(is_answered, lambda: f"an answer; {len(refusals)} times busy, at last: {refusals[-1]}")
    return answers[0]


class PatientHTTPClient(HTTPClient):
    """Sends a request again until the server isn't busy; nothing was released by then."""

    def request(
        self,
        method: str,
        path: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        once = super().request
        return until_answered(
            lambda: once(method, path, body=body, content_type=content_type, headers=headers)
        )


class PatientAdminClient(AdminClient):
    """The same for an operator's verbs."""

    def call(self, verb: str, **arguments: Any) -> Any:
        once = super().call
        return until_answered(lambda: once(verb, **arguments))


class PatientSigningClient(SigningClient):
    """The same for signatures."""

    @contextmanager
    def _http(self) -> Iterator[HTTPClient]:
        if not self._idle:
            self._idle.append(PatientHTTPClient(self._connect, host=self._host))
        with super()._http() as client:
            yield client
