"""Calls over the credentials service's operator socket, for the groups of commands that need it (credential,
module, policy).
"""

from __future__ import annotations

from typing import Any

from ostiary.cli.invocation import home


def call(verb: str, **arguments: Any) -> Any:
    """Call a verb of the service in --home; raises what the service raised."""
    # Imported when called: `ostiary --help` stays below a tenth of a second.
    from ostiary.admin.client import AdminClient
    from ostiary.edge.home import ServiceHome

    place = ServiceHome(home() / "credsvc")
    return AdminClient(place.operator_socket, service="credsvc").call(verb, **arguments)
