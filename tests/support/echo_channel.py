"""A role that says back what it hears: a hub in a thread."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path

from ostiary.edge.frame import Status
from ostiary.edge.hub import Hub, PeerArrived, Request

ME = frozenset({os.getuid()})


class EchoServer:
    """Echoes until it is stopped; `delay_s` before each answer. `arrivals` counts connections."""

    def __init__(self, path: Path, *, delay_s: float = 0) -> None:
        self.arrivals = 0
        self._hub = Hub()
        self._hub.listen(path, channel="test", allowed_uids=ME)
        self._delay_s = delay_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            for event in self._hub.poll(0.01):
                match event:
                    case Request():
                        time.sleep(self._delay_s)
                        event.reply(Status.OK, event.body)
                    case PeerArrived():
                        self.arrivals += 1
                    case _:
                        pass
        self._hub.close()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()
