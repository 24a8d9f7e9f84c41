"""The node controller of the demonstration: an agent that may spawn others, told by JSON lines on its
standard input.

    {"do": "claim", "socket", "token"}                                -> {"agent", "via"}
    {"do": "spawn", "subsystem", "capabilities", "endpoints", "argv"}  -> {"agent", "pid"}; the child reads its claim on its own input
    {"do": "tell", "agent", "question": {...}}                         -> the child's answer
    {"do": "end", "agent"}                                             -> {"ended": true}

A child that answers (`"piped": true`) gets its claim as a JSON line; any other gets the bare token, and the
end of its input.
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
    """Its manager and its children by agent."""

    def __init__(self) -> None:
        self._socket = ""
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Do one thing."""
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
        child = subprocess.Popen(
            [sys.executable, *question["argv"]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE if question["piped"] else subprocess.DEVNULL,
            start_new_session=True,
        )
        agent, token = request_agent(
            self._socket,
            question["subsystem"],
            capabilities=question["capabilities"],
            endpoints=question["endpoints"],
            pid=child.pid,
        )
        self._children[agent] = child
        _hand_over(child.stdin, agent, token, piped=question["piped"])
        return {"agent": agent, "pid": child.pid}


def _hand_over(pipe: IO[bytes] | None, agent: str, token: str, *, piped: bool) -> None:
    if pipe is None:
        raise AssertionError("the child has an input")
    line = json.dumps({"agent": agent, "claim_token": token}) if piped else token
    pipe.write(line.encode() + b"\n")
    pipe.flush()
    if not piped:
        pipe.close()


def main() -> None:
    """Answer until the input ends or somebody says stop; the children end with it."""
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
