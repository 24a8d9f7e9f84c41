"""The state that the demonstration's steps share: directory, processes, and results of earlier steps."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ostiary.demo import provider
from ostiary.demo.processes import Dialogue, Processes, ostiary_argv
from ostiary.demo.transcript import Transcript

GOGRID_SECRET_BYTES = 12
ROLES = {"ca": 6, "credsvc": 5}
"""The number of processes of each service, without its supervisor."""


@dataclass(slots=True)
class Story:
    """The state between steps. What a later step needs of an earlier one stands here, and nowhere else."""

    directory: Path
    transcript: Transcript
    processes: Processes
    # Secrets are made anew in each run and shown in no repr: the leak test greps all output for them.
    passphrase: str = field(default_factory=lambda: secrets.token_urlsafe(24), repr=False)
    gogrid_secret: str = field(default_factory=lambda: secrets.token_hex(GOGRID_SECRET_BYTES), repr=False)
    ports: dict[str, int] = field(default_factory=dict)
    bootstrap: dict[str, Any] = field(default_factory=dict, repr=False)
    controller: Dialogue | None = None
    agents: dict[str, str] = field(default_factory=dict)
    cloud: provider.CloudAccount | None = field(default=None, repr=False)
    by_kernel: bool = False

    @property
    def home(self) -> Path:
        """The services' home."""
        return self.directory / "home"

    @property
    def manager_socket(self) -> Path:
        """The manager's UNIX socket."""
        return self.directory / "certmgr.sock"

    @property
    def provider_url(self) -> str:
        """The provider's base URL."""
        return f"http://127.0.0.1:{self.ports['provider']}"

    def ostiary(self, *arguments: str, secret_input: str = "") -> Any:
        """Run an `ostiary` command in this story's home and return its result."""
        return self.processes.run("--home", str(self.home), *arguments, secret_input=secret_input)

    def serve(self, name: str, *arguments: str, secret_input: bytes | None = None) -> None:
        """Start a service and leave it running."""
        argv = ostiary_argv("--home", str(self.home), *arguments)
        self.processes.start(name, argv, secret_input=secret_input)

    def ask_controller(self, **question: Any) -> Any:
        """Ask the node controller a question."""
        if self.controller is None:
            raise AssertionError("the node controller has not been started")
        return self.controller.ask(**question)

    def ask_agent(self, name: str, **question: Any) -> Any:
        """Ask an agent a question, through the node controller that spawned it."""
        return self.ask_controller(do="tell", agent=self.agents[name], question=question)

    def close(self) -> None:
        """Stop all processes."""
        self.processes.stop()


def ready_roles(story: Story, service: str) -> list[dict[str, Any]]:
    """Return the rows of the supervisor's status file whose role is ready."""
    path = story.home / service / "run" / "roles.json"
    if not path.exists():
        return []
    found: list[dict[str, Any]] = json.loads(path.read_text("utf-8"))
    return [role for role in found if role["state"] == "ready"]


def wait_for_roles(story: Story, service: str) -> None:
    """Wait until every role of a service is ready."""
    wanted = ROLES[service]
    story.processes.wait_until(
        lambda: len(ready_roles(story, service)) == wanted, f"the start of {service}", within_s=40
    )
