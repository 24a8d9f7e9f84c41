"""Capabilities: what an agent may request, written into its certificate and only ever shrinking.

Rules:
- A capability is `<verb>:<object>`, lower-case words; there are no wildcards; unknown ones are carried and
  grant nothing.
- An agent gets requested & grant(its sub-system) & its ceiling; ceiling(child) = ceiling(parent) & what the
  spawner asked.
- In the certificate: `Capabilities ::= SEQUENCE OF UTF8String`, DER, sorted, without doubles, non-critical.

The OID is a UUID of ours under Microsoft's arc for them, because the arc 2.25.<uuid> makes a certificate
unreadable in Go and GnuTLS (docs/adr/0006-capabilities-oid.md). Who may do what with a capability is policy,
not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final, NewType, TypeAlias

from cryptography import x509

from ostiary import der
from ostiary.errors import BadInput
from ostiary.names import SubSystem, parse_subsystem

Capability = NewType("Capability", str)
Capabilities: TypeAlias = frozenset[Capability]

# UUID 5608ffb2-2b83-434d-868e-6233553dff0b, its hex cut 4-4-4-4-4-6-6.
CAPABILITIES_OID: Final = x509.ObjectIdentifier(
    "1.2.840.113556.1.8000.2554.22024.65458.11139.17229.34446.6435669.4062987"
)
NO_CAPABILITIES: Final[Capabilities] = frozenset()
MAX_DEPTH: Final = 8
MAX_CAPABILITIES: Final = 64

_SPAWN: Final = "spawn:"
_GRAMMAR: Final = re.compile(r"(?=.{3,97}\Z)[a-z][a-z0-9]*(?:-[a-z0-9]+)*:[a-z][a-z0-9]*(?:-[a-z0-9]+)*")


def parse_capability(text: str) -> Capability:
    """Parse one capability; BadInput names `capabilities`."""
    if not _GRAMMAR.fullmatch(text):
        raise BadInput(
            f"capabilities: {text[:128]!r} is not '<verb>:<object>' in lower-case letters, digits and hyphens",
            field="capabilities",
        )
    if text.startswith(_SPAWN):
        parse_subsystem(text.removeprefix(_SPAWN))
    return Capability(text)


def parse_capabilities(texts: Iterable[str]) -> Capabilities:
    """Parse several; doubles fall together. Raises BadInput for a bad one or more than MAX_CAPABILITIES."""
    capabilities = frozenset(parse_capability(text) for text in texts)
    if len(capabilities) > MAX_CAPABILITIES:
        raise BadInput(f"capabilities: more than {MAX_CAPABILITIES}", field="capabilities")
    return capabilities


def encode_extension(capabilities: Capabilities) -> der.DER:
    """Encode the extension's value: DER SEQUENCE OF UTF8String, sorted."""
    return der.sequence_of(der.utf8_string(capability) for capability in sorted(capabilities))


def decode_extension(value: bytes) -> Capabilities:
    """Decode what `encode_extension` writes; BadInput for any other bytes, also for other encodings of the
    same set.
    """
    texts: list[str] = []
    for tag, item in der.items(der.expect(value, der.SEQUENCE, what="capabilities")):
        if tag != der.UTF8_STRING:
            raise BadInput(
                "capabilities: extension holds something else than UTF8String", field="capabilities"
            )
        texts.append(_text(item))
    capabilities = parse_capabilities(texts)
    if encode_extension(capabilities) != value:
        raise BadInput("capabilities: extension is not sorted and without doubles", field="capabilities")
    return capabilities


def _text(item: bytes) -> str:
    _, start, end = der.read(item)
    try:
        return item[start:end].decode("ascii")
    except UnicodeDecodeError as exc:
        raise BadInput("capabilities: extension is not ASCII", field="capabilities") from exc


def spawnable(capabilities: Capabilities) -> frozenset[SubSystem]:
    """Return the sub-systems that these capabilities let their holder start."""
    return frozenset(
        SubSystem(capability.removeprefix(_SPAWN))
        for capability in capabilities
        if capability.startswith(_SPAWN)
    )


def issue(*, requested: Capabilities, grant: Capabilities, ceiling: Capabilities) -> Capabilities:
    """Return what goes into a certificate: never more than any of the three."""
    return requested & grant & ceiling


def child_ceiling(*, parent_ceiling: Capabilities, asked: Capabilities) -> Capabilities:
    """Return what a new agent's ancestors leave it."""
    return parent_ceiling & asked


def reach_within(
    grants: Mapping[SubSystem, Capabilities], subsystem: SubSystem, ceiling: Capabilities
) -> dict[SubSystem, Capabilities]:
    """Return each sub-system that a chain from `subsystem` under `ceiling` can start, with the most it may
    hold there.

    The start itself is a member. A sub-system without a grant may be started and holds nothing.
    """
    reached: dict[SubSystem, Capabilities] = {}
    frontier = frozenset((subsystem,))
    for _ in range(MAX_DEPTH + 1):
        found = {name: grants.get(name, NO_CAPABILITIES) & ceiling for name in frontier}
        reached |= found
        frontier = frozenset[SubSystem]().union(*map(spawnable, found.values())) - reached.keys()
        if not frontier:
            break
    return reached


def reach(grants: Mapping[SubSystem, Capabilities], subsystem: SubSystem) -> dict[SubSystem, Capabilities]:
    """Return `reach_within` for an agent without ancestors, whose ceiling is all that policy grants to
    anyone.
    """
    return reach_within(grants, subsystem, NO_CAPABILITIES.union(*grants.values()))
