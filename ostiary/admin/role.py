"""The admin's role: the operator's verbs on a local socket, never on the network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Engine

from ostiary.admin.server import Verb, serve_verbs
from ostiary.edge.hub import Hub
from ostiary.edge.place import Place
from ostiary.edge.role import announce_ready
from ostiary.recorder.client import RecorderClient, recorder_client
from ostiary.store.database import open_for_reading


def run_admin(
    place: Place,
    make_verbs: Callable[[RecorderClient, Engine], Mapping[str, Verb]],
    operators_gid: int | None,
) -> None:
    """Run the admin process for ever. Root, the home's owner and the operators' group may connect."""
    hub = Hub()
    # The socket file is open to all (0o666) and its directory too: the hub admits by SO_PEERCRED, because a
    # group that the operator configures can't be the directory's, which is the role's.
    hub.listen(
        place.home.operator_socket,
        channel="operator",
        allowed_uids=frozenset({0, place.home.path.stat().st_uid}),
        allowed_gids=frozenset() if operators_gid is None else frozenset({operators_gid}),
        mode=0o666,
    )
    recorder = recorder_client(place, "admin")
    verbs = make_verbs(recorder, open_for_reading(place.database_url))
    # The socket listens already, so the first command after "ready" finds it.
    announce_ready()
    serve_verbs(hub, verbs)
