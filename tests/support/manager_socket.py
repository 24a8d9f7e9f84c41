"""`python -m tests.support.manager_socket PATH`: the socket of a manager with one agent, whose deadlines come
after any test's own.

The agent is the node controller, signed and not claimed yet; its token is `manager_records.token(9)`.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import cast

from certmgr.api import build_api
from certmgr.app import LIMITS
from certmgr.processes import LinuxProcesses
from ostiary.front.offload import Offload
from ostiary.front.serve import listen_unix, run_alone
from ostiary.front.worker import Front, Served
from tests.support.fake_processes import FakeProcesses
from tests.support.fronts import NEVER_S
from tests.support.manager_records import (
    CONTROLLER,
    CONTROLLER_NAMES,
    FakeClock,
    FakeNode,
    authority,
    install_certificate,
    make_agents,
    token,
)

PATIENT_LIMITS = dataclasses.replace(
    LIMITS, head_s=NEVER_S, exchange_s=NEVER_S, leave_s=NEVER_S, work_s=NEVER_S, keepalive_s=NEVER_S
)


async def start(_slot: int) -> Served:
    view = LinuxProcesses()
    node = FakeNode()
    node.agents = make_agents(cast("FakeProcesses", view))
    node.agents.introduce(CONTROLLER_NAMES, token(9))
    install_certificate(node.agents, CONTROLLER, node.issued(CONTROLLER))
    app = build_api(
        node.agents,
        view=view,
        root=authority().root,
        clock=FakeClock(),
        status=node.agents.status,
        offload=Offload(threads=1),
    )
    return Served(app=app, tls=None)


if __name__ == "__main__":
    sock = listen_unix(Path(sys.argv[1]), mode=0o666)
    run_alone(Front(listeners=[sock], start=start, workers=1, limits=PATIENT_LIMITS))
