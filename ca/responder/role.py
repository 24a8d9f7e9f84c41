"""The OCSP responder's process: a key of its own in memory, requests from the status front and from the front
(about its own certificate, to staple the answer), no network.

Plan of `run`: 1. protect the process before it makes a key; 2. get a certificate; 3. open store and channels;
4. say ready, and serve.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path
from typing import Final

from ca.certificates.profile import check_profile
from ca.home import CAHome
from ca.responder.answers import Answers, ResponderKey
from ca.responder.loop import Certifier, ResponderLoop
from ca.store.reader import StoreReader
from ostiary.edge.clock import SystemClock
from ostiary.edge.hub import Hub
from ostiary.edge.hygiene import harden_process
from ostiary.edge.role import announce_ready
from ostiary.edge.users import RoleName
from ostiary.errors import OstiaryError
from ostiary.recorder.client import recorder_client
from ostiary.store.database import open_for_reading

_log = logging.getLogger("ostiary.ca.responder")
START_S: Final = 20.0
_RETRY_S: Final = 0.2


def run(home_path: Path) -> None:
    """Be the responder until told to stop."""
    home = CAHome.at(home_path)
    place = home.place()
    # 1. No core dump, no ptrace (ostiary/edge/hygiene.py). A host may not allow all of it, and then the log
    #    says so.
    for shortfall in harden_process():
        _log.warning("responder-less-protected", extra={"shortfall": shortfall})
    config = home.config()
    clock = SystemClock()
    issuing = home.issuing()
    certifier = Certifier(
        profile=check_profile(config.profile(), issuing),
        recording=recorder_client(place, "responder"),
        clock=clock,
        random=os.urandom,
    )
    # 2.
    first = _first(certifier)
    # 3.
    reader = StoreReader(open_for_reading(place.database_url, connections=1))
    hub = Hub()
    for channel, asker in (("ocsp", RoleName.STATUS), ("staple", RoleName.FRONT)):
        hub.listen(
            place.home.channel(channel),
            channel=channel,
            allowed_uids=frozenset({place.users.uid(asker)}),
            mode=0o666,  # the directory says who may enter
        )
    loop = ResponderLoop(
        hub=hub, answers=Answers(issuing, reader, clock, first), certifier=certifier, clock=clock, first=first
    )
    # 4.
    announce_ready()
    loop.run()


def _first(certifier: Certifier) -> ResponderKey:
    """Wait up to START_S for the recorder and its keyholder; raises their last error."""
    deadline = time.monotonic() + START_S
    while True:
        try:
            return certifier.obtain()
        except OstiaryError:
            if time.monotonic() > deadline:
                raise
            time.sleep(_RETRY_S)
