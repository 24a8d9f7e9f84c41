"""A thief inside a role: a process with that role's user that sends the next role whatever a test wants.

    with ThiefInRole(users, RoleName.FRONT) as thief:
        answer = thief.submit(home.channel("front"), item)
        assert not thief.can("read", home.database)

The test commands the process by JSON lines. Run as a program, this file is that process.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, Literal, Self

from ostiary.edge.channel import Client
from ostiary.edge.frame import Status
from ostiary.edge.users import RoleName, RoleUsers
from ostiary.errors import Busy, OstiaryError
from ostiary.keyholder.client import decode_answer
from ostiary.keyholder.protocol import FromKeyholder, ToKeyholder, encode_message
from ostiary.work.answer import Recorded, Refused, decode_recorded, decode_refused
from ostiary.work.item import Item
from ostiary.work.item_encoding import encode_item
from tests.support.repository import ROOT
from tests.support.waiting import PATIENCE_S


class ThiefInRole:
    """A thief inside one role, as the test controls it; `users` are those of the running service."""

    def __init__(self, users: RoleUsers, role: RoleName) -> None:
        self._users = users
        separated = users.separated
        readers = [] if role is RoleName.KEYHOLDER else [users.readers_gid()]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.inside_role"],
            cwd=ROOT,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            user=users.uid(role) if separated else None,
            group=users.gid(role) if separated else None,
            extra_groups=readers if separated else None,
        )
        self.heard: list[bytes] = []
        """Every response that the thief received."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._process.stdin is not None and self._process.stdout is not None:
            self._process.stdin.close()
            self._process.stdout.close()
        self._process.wait(PATIENCE_S)

    def submit(self, channel: Path, item: Item) -> Recorded | Refused:
        """Submit an item to the recorder."""
        return self.submit_raw(channel, encode_item(item))

    def submit_raw(self, channel: Path, body: bytes) -> Recorded | Refused:
        status, answer = self._call(channel, body, RoleName.RECORDER)
        if status is Status.BUSY:
            raise Busy("the recorder is busy")
        return decode_recorded(answer) if status is Status.OK else decode_refused(answer)

    def say(self, channel: Path, message: ToKeyholder) -> FromKeyholder:
        """Send a message to the keyholder as its recorder would."""
        status, answer = self._call(channel, encode_message(message), RoleName.KEYHOLDER)
        assert status is Status.OK
        return decode_answer(answer)

    def can(self, do: Literal["connect", "read", "write"], path: Path) -> bool:
        """Return whether this user may connect to a socket, or read or write a file or directory."""
        return bool(self._ask(do=do, path=str(path))["done"])

    def _call(self, channel: Path, body: bytes, peer: RoleName) -> tuple[Status, bytes]:
        answer = self._ask(
            do="call", path=str(channel), body=base64.b64encode(body).decode(), uid=self._users.uid(peer)
        )
        if "error" in answer:
            raise Busy(answer["error"])
        heard = base64.b64decode(answer["body"])
        self.heard.append(heard)
        return Status(answer["status"]), heard

    def _ask(self, **question: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(question) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer


def _call(path: Path, question: dict[str, Any]) -> dict[str, Any]:
    with closing(Client(path, expected_uids=frozenset({question["uid"]}))) as client:
        try:
            answer = client.call(base64.b64decode(question["body"]), timeout_s=PATIENCE_S)
        except OstiaryError as exc:
            return {"error": exc.message}
    return {"status": int(answer.status), "body": base64.b64encode(answer.body).decode()}


def _try(do: str, path: Path) -> dict[str, Any]:
    try:
        match do:
            case "connect":
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
                    sock.connect(str(path))
            case "read":
                _ = list(path.iterdir()) if path.is_dir() else path.read_bytes()
            case "write":
                os.close(os.open(path, os.O_WRONLY))
            case _:
                return {}
    except OSError:
        return {"done": False}
    return {"done": True}


def main() -> None:
    """Carry out the test's commands until the input ends."""
    for line in sys.stdin:
        question = json.loads(line)
        path = Path(question["path"])
        answer = _call(path, question) if question["do"] == "call" else _try(question["do"], path)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
