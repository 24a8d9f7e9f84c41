"""Capabilities: what an agent may request, listed in its certificate.

Rules:
- A capability is `<verb>:<object>`, lower-case words. There are no wildcards. An unknown capability is
  carried along and grants nothing.
- In the certificate: `Capabilities ::= SEQUENCE OF UTF8String`, DER, sorted, without duplicates,
  non-critical.

`ostiary.capability_ceilings` says how they shrink. Policy decides who may do what with a capability.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, NewType, TypeAlias

from cryptography import x509

from ostiary import der
from ostiary.errors import BadInput
from ostiary.names import parse_subsystem

Capability = NewType("Capability", str)
Capabilities: TypeAlias = frozenset[Capability]

# UUID 5608ffb2-2b83-434d-868e-6233553dff0b under Microsoft's arc for UUIDs, its hex digits cut 4-4-4-4-4-6-6
# and each group read as a number. The standard arc 2.25.<uuid> would need an arc of 128 bits, which makes the
# whole certificate unreadable to Go and GnuTLS, critical or not (docs/adr/0006-capabilities-oid.md).
CAPABILITIES_OID: Final = x509.ObjectIdentifier(
    "1.2.840.113556.1.8000.2554.22024.65458.11139.17229.34446.6435669.4062987"
)
NO_CAPABILITIES: Final[Capabilities] = frozenset()
MAX_CAPABILITIES: Final = 64

SPAWN: Final = "spawn:"
_GRAMMAR: Final = re.compile(r"(?=.{3,97}\Z)[a-z][a-z0-9]*(?:-[a-z0-9]+)*:[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def parse_capability(text: str) -> Capability:
    """Parse one capability; BadInput names `capabilities`."""
    if not _GRAMMAR.fullmatch(text):
        raise BadInput(
            f"capabilities: {text[:128]!r} is not '<verb>:<object>' in lower-case letters, digits and"
            " hyphens",
            field="capabilities",
        )
    if text.startswith(SPAWN):
        parse_subsystem(text.removeprefix(SPAWN))
    return Capability(text)


def parse_capabilities(texts: Iterable[str]) -> Capabilities:
    """Parse several; duplicates collapse. BadInput for a malformed one, or more than MAX_CAPABILITIES."""
    capabilities = frozenset(parse_capability(text) for text in texts)
    if len(capabilities) > MAX_CAPABILITIES:
        raise BadInput(f"capabilities: more than {MAX_CAPABILITIES}", field="capabilities")
    return capabilities


def encode_extension(capabilities: Capabilities) -> der.DER:
    """Encode the extension's value: DER SEQUENCE OF UTF8String, sorted."""
    return der.sequence_of(der.utf8_string(capability) for capability in sorted(capabilities))


def decode_extension(value: bytes) -> Capabilities:
    """Decode what `encode_extension` writes; BadInput for any other bytes, even of the same set."""
    texts: list[str] = []
    for tag, item in der.items(der.expect(value, der.SEQUENCE, what="capabilities")):
        if tag != der.UTF8_STRING:
            raise BadInput(
                "capabilities: extension has a member that is not a UTF8String", field="capabilities"
            )
        texts.append(_text(item))
    capabilities = parse_capabilities(texts)
    # Encoding again and comparing covers order, duplicates and lengths in one check, and leaves no second
    # spelling that a signature or a fingerprint would tell apart.
    if encode_extension(capabilities) != value:
        raise BadInput("capabilities: extension is unsorted or has duplicates", field="capabilities")
    return capabilities


def _text(item: bytes) -> str:
    _, start, end = der.read(item)
    try:
        return item[start:end].decode("ascii")
    except UnicodeDecodeError as exc:
        raise BadInput("capabilities: extension is not ASCII", field="capabilities") from exc
