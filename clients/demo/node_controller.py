"""The node controller of the demonstration: an agent that may spawn others.

It reads one JSON object per line and answers each with one:

    {"do": "claim", "socket", "token"}          -> {"agent"}
    {"do": "spawn", "subsystem", "capabilities", "endpoints", "argv", "piped"}
                                                -> {"agent", "pid"}
    {"do": "tell", "agent", "question": {...}}  -> the child's answer
    {"do": "end", "agent"}                      -> {"ended": true}

Each child reads its claim from standard input: with "piped" as a JSON line that more lines may follow, else
as the bare token before the end of the input. A refusal is {"error", "kind", "rule"}.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import IO, Any

from certmgr.client import ManagerError, claim, request_agent
from ostiary.demo.processes import Dialogue


class NodeController:
    """The manager's socket, and the children by agent."""

    def __init__(self) -> None:
        self._socket = ""
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Perform one order."""
        match question["do"]:
            case "claim":
                self._socket = question["socket"]
                return {"agent": claim(self._socket, question["token"]).agent}
            case "spawn":
                return self._spawn(question)
            case "tell":
                answer: dict[str, Any] = Dialogue(self._children[question["agent"]]).ask(
                    **question["question"]
                )
                return answer
            case "end":
                child = self._children.pop(question["agent"])
                child.terminate()
                child.wait()
                return {"ended": True}
            case _:
                return {"error": "unknown question"}

    def end_all(self) -> None:
        """End every child, and wait for it."""
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            child.wait()

    def _spawn(self, question: dict[str, Any]) -> dict[str, Any]:
        # 1. Start the child, which waits for its claim. 2. Ask for the agent and name that process, so nobody
        # else can claim it. 3. Hand the token over by a pipe: arguments and environments show in /proc.
        # 1. in a session of its own, so that it outlives a terminal's hang-up
        child = subprocess.Popen(
            [sys.executable, *question["argv"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if question["piped"] else subprocess.DEVNULL,
            start_new_session=True,
        )
        # 2.
        agent, token = request_agent(
            self._socket,
            question["subsystem"],
            capabilities=question["capabilities"],
            endpoints=question["endpoints"],
            pid=child.pid,
        )
        self._children[agent] = child
        # 3.
        _hand_over(child.stdin, agent, token, piped=question["piped"])
        return {"agent": agent, "pid": child.pid}


def _hand_over(pipe: IO[bytes] | None, agent: str, token: str, *, piped: bool) -> None:
    if pipe is None:
        raise AssertionError("the child was started without an input")
    line = json.dumps({"agent": agent, "claim_token": token}) if piped else token
    pipe.write(line.encode() + b"\n")
    pipe.flush()
    if not piped:
        pipe.close()


def main() -> None:
    """Answer until the input ends or SIGTERM arrives; the children end with it."""
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(0))
    controller = NodeController()
    try:
        for line in sys.stdin:
            try:
                answer = controller.answer(json.loads(line))
            except ManagerError as exc:
                answer = {"error": str(exc), "kind": exc.kind, "rule": exc.rule}
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()
    finally:
        controller.end_all()


if __name__ == "__main__":
    main()
