"""A stand-in for the credentials service's operator socket: answers from a table, keeps what was asked."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

COMMANDS = ("credential", "module", "policy")


@dataclass(slots=True)
class OperatorVerbs:
    """Answers by verb; an answer that is an exception is raised, as the real client raises the service's."""

    answers: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __call__(self, verb: str, **arguments: Any) -> Any:
        self.asked.append((verb, arguments))
        answer = self.answers[verb]
        if isinstance(answer, Exception):
            raise answer
        return answer


def answer_verbs(monkeypatch: pytest.MonkeyPatch, **answers: Any) -> OperatorVerbs:
    """Put the stand-in where the commands find the socket; `credential_put=...` answers `credential.put`."""
    verbs = OperatorVerbs(answers={name.replace("_", ".", 1): value for name, value in answers.items()})
    for command in COMMANDS:
        monkeypatch.setattr(f"credsvc.commands.{command}.call", verbs)
    return verbs
