"""A program that a test controls: it reads orders as JSON lines and answers each with one.

    python claiming_program.py SOCKET [UID]

An order is {"do": VERB, ...} with a verb of `VERBS`; with UID the program first becomes that user.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from certmgr import client
from keyutils import agent_keys
from keyutils.keyring import KeyringError


def _shown(claimed: client.Claimed) -> dict[str, Any]:
    return {"agent": claimed.agent, "generation": claimed.generation, "chain": claimed.chain.decode()}


def claim(socket_path: str, order: dict[str, Any]) -> dict[str, Any]:
    return _shown(client.claim(socket_path, order.pop("token", None), **order))


def request(socket_path: str, order: dict[str, Any]) -> dict[str, Any]:
    agent, token = client.request_agent(socket_path, order.pop("subsystem"), **order)
    return {"agent": agent, "token": token}


def join(_socket_path: str, _order: dict[str, Any]) -> dict[str, Any]:
    return {"session": agent_keys.join_session()}


def keyring(_socket_path: str, order: dict[str, Any]) -> dict[str, Any]:
    return _shown(client.claim_by_keyring(order["agent"], order.get("token")))


def forget(_socket_path: str, order: dict[str, Any]) -> dict[str, Any]:
    agent_keys.forget(order["agent"])
    return {}


def end(socket_path: str, order: dict[str, Any]) -> dict[str, Any]:
    return client.call(socket_path, "POST", f"/v1/agents/{order['agent']}/end", {})


def fork(_socket_path: str, _order: dict[str, Any]) -> dict[str, Any]:
    """Fork; the parent does nothing until it is killed, and the child continues with the same streams."""
    if os.fork():
        signal.pause()
    return {"pid": os.getpid()}


def daemonize(_socket_path: str, _order: dict[str, Any]) -> dict[str, Any]:
    """Become a daemon: fork, setsid, fork; the first two processes have ended then."""
    if os.fork():
        os._exit(0)
    os.setsid()
    if os.fork():
        os._exit(0)
    time.sleep(0.3)
    return {"pid": os.getpid()}


def child(socket_path: str, order: dict[str, Any]) -> dict[str, Any]:
    """Let a descendant perform the order."""
    command = [sys.executable, __file__, socket_path]
    line = json.dumps(order["order"]).encode() + b"\n"
    found = subprocess.run(command, input=line, capture_output=True, check=True)
    answer: dict[str, Any] = json.loads(found.stdout)
    return answer


def run(_socket_path: str, order: dict[str, Any]) -> dict[str, Any]:
    found = subprocess.run(order["command"], capture_output=True, check=True, pass_fds=order.get("fds", ()))
    return {"output": found.stdout.decode()}


VERBS: dict[str, Callable[[str, dict[str, Any]], dict[str, Any]]] = {
    each.__name__: each for each in (claim, request, join, keyring, forget, end, fork, daemonize, child, run)
}


def main() -> None:
    socket_path = sys.argv[1]
    if len(sys.argv) > 2:
        os.setgroups([])
        os.setresgid(*[int(sys.argv[2])] * 3)
        os.setresuid(*[int(sys.argv[2])] * 3)
    for line in sys.stdin:
        try:
            order = json.loads(line)
            answer = VERBS[order.pop("do")](socket_path, order)
        except client.ManagerError as exc:
            answer = {"error": exc.kind, "rule": exc.rule, "message": str(exc)}
        except KeyringError as exc:
            answer = {"error": exc.name}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
