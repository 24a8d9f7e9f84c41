"""What a caller asks for: untrusted JSON and path parts in, a checked request out. One function crosses
(`check_request`).

Rules:
- The names in the path are those of `credsvc.names`.
- The provider's request is the module's to judge. Here it is only bounded: its depth, and no number that
  another JSON library would round.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import msgspec

from credsvc.names import CredentialName, OperationName, parse_credential, parse_operation
from credsvc.policy.cedar import AgentEntity
from ostiary.errors import BadInput
from ostiary.work.item import Peer

MAX_REQUEST_BYTES: Final = 256 * 1024
"""Several times the headers and query of the largest request that fits a work item."""
MAX_BATCH: Final = 256
MAX_BATCH_BYTES: Final = 1 << 20
# A provider's request is a map of maps and lists; json.dumps and the module recurse over it.
MAX_DEPTH: Final = 16
# The integers that a double holds exactly (RFC 8259 section 6): what a module's provider, or the ledger's
# readers, decode with another library is the number that was checked here.
_MAX_INT: Final = 2**53 - 1


class RawRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body as it came."""

    request: dict[str, Any]


class RawBatch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of a batch as it came; each of the requests is a `RawRequest`'s."""

    requests: Annotated[list[dict[str, Any]], msgspec.Meta(min_length=1, max_length=MAX_BATCH)]


@dataclass(frozen=True, slots=True, kw_only=True)
class SignRequest:
    """Who asks for which operation of which credential, and the provider's request, bounded but not
    understood.
    """

    peer: Peer
    agent: AgentEntity
    credential: CredentialName
    operation: OperationName
    request: Mapping[str, Any] = field(repr=False)


def check_request(
    raw: RawRequest, *, peer: Peer, agent: AgentEntity, credential: str, operation: str
) -> SignRequest:
    """Cross from untrusted to checked; BadInput names the member at fault."""
    _check_value(raw.request, depth=1)
    return SignRequest(
        peer=peer,
        agent=agent,
        credential=parse_credential(credential),
        operation=parse_operation(operation),
        request=raw.request,
    )


def _check_value(value: object, *, depth: int) -> None:
    # First of all, so that this function's own recursion is bounded.
    if depth > MAX_DEPTH:
        raise BadInput(f"request: nested deeper than {MAX_DEPTH}", field="request")
    if isinstance(value, dict):
        for item in value.values():
            _check_value(item, depth=depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_value(item, depth=depth + 1)
    elif isinstance(value, int) and abs(value) > _MAX_INT:
        raise BadInput("request: a number beyond 2^53", field="request")
