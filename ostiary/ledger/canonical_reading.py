"""Reading canonical JSON: only the one form that `ostiary.ledger.canonical` writes (RFC 8785) is taken."""

from __future__ import annotations

import json
from typing import cast

from ostiary.errors import BadInput
from ostiary.ledger.canonical import JSON, canonical

__all__ = ["parse_canonical"]


def parse_canonical(data: bytes) -> JSON:
    """Read bytes that must be the canonical form of what they say; raises BadInput where they are not.

    Duplicate names, white space, other orders and other escapes all come out as a difference in bytes.
    """
    # json.loads forgives doubled names, floats and stray white space; the comparison below forgives nothing.
    try:
        value = cast("JSON", json.loads(data.decode()))
    except (ValueError, RecursionError) as exc:
        raise BadInput("the text is not JSON in UTF-8") from exc
    if canonical(value) != data:
        raise BadInput("the JSON is not in canonical form (RFC 8785)")
    return value
