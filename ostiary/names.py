"""Names of applications, nodes, sub-systems and agents: four types of text that must not mix.

Rules:
- All are lower-case ASCII. Comparison is of the text as written: nothing is folded, trimmed or decoded.
- A DNS name consists of LDH labels (RFC 5890 section 2.3.1), has at least one dot and no trailing dot, and
  is not an IPv4 address.
- Applications, nodes and sub-systems have at most 64 characters.
"""

from __future__ import annotations

import re
from typing import Final, NewType

from ostiary.errors import BadInput

Application = NewType("Application", str)
NodeName = NewType("NodeName", str)
SubSystem = NewType("SubSystem", str)
AgentID = NewType("AgentID", str)

# ub-organization-name and ub-organizational-unit-name (RFC 5280 appendix A.1), O and OU of a certificate.
# OpenSSL, GnuTLS and pyca/cryptography accept longer ones (measured with 65 and 151 characters); pkilint
# calls them fatal.
MAX_NAME: Final = 64

# A label has at most 63 octets (RFC 1035 section 2.3.4). The last one is never all digits (RFC 3696 section
# 2), so that no address such as 127.0.0.1 passes for a name.
_LABEL: Final = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_DNS_NAME: Final = re.compile(rf"(?=.{{3,{MAX_NAME}}}\Z)(?:{_LABEL}\.)+(?![0-9]+\Z){_LABEL}")
_SUBSYSTEM: Final = re.compile(rf"(?=.{{1,{MAX_NAME}}}\Z)[a-z][a-z0-9]*(?:-[a-z0-9]+)*")
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


def parse_application(text: str) -> Application:
    """Parse the DNS-like name of a platform instance; BadInput names `application`."""
    return Application(_dns_name(text, field="application"))


def parse_node(text: str) -> NodeName:
    """Parse a node's fully qualified name; BadInput names `node`. Not checked: its node domain."""
    return NodeName(_dns_name(text, field="node"))


def parse_subsystem(text: str) -> SubSystem:
    """Parse the name of a kind of agent, `component-harness`; BadInput names `subsystem`."""
    if not _SUBSYSTEM.fullmatch(text):
        raise _refusal(
            text, field="subsystem", wanted="lower-case words of letters and digits joined by hyphens"
        )
    return SubSystem(text)


def parse_agent_id(text: str) -> AgentID:
    """Parse an agent's UUID in its lower-case text form (RFC 9562 section 4); BadInput names `agent`."""
    # `uuid.UUID(text)` would take braces, "urn:uuid:", upper case and missing hyphens as well.
    if not _UUID.fullmatch(text):
        raise _refusal(text, field="agent", wanted="a lower-case UUID")
    return AgentID(text)


def is_within(name: str, domain: str) -> bool:
    """Return whether a DNS name equals the domain or lies below it (RFC 5280 section 4.2.1.10, dNSName)."""
    return name == domain or name.endswith("." + domain)


def _dns_name(text: str, *, field: str) -> str:
    if not _DNS_NAME.fullmatch(text):
        raise _refusal(text, field=field, wanted="a lower-case DNS name with at least one dot")
    return text


def _refusal(text: str, *, field: str, wanted: str) -> BadInput:
    return BadInput(f"{field}: {text[:128]!r} is not {wanted}, at most {MAX_NAME} characters", field=field)
