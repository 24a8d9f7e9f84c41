"""`ostiary demo`: the main job with all parts, as separate processes on this machine, step by step."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import click
from rich.console import Console

from ostiary.cli import output
from ostiary.extras import require_extra


@click.command()
@click.option("--keep", is_flag=True, help="Keep the directory with homes and logs.")
def demo(*, keep: bool) -> None:
    """Start everything on loopback, use it, revoke it, audit it; exit 0 only if every check holds."""
    require_extra("demo", what="'ostiary demo'")
    from ostiary.demo.processes import Processes
    from ostiary.demo.scenario import play
    from ostiary.demo.story import Story
    from ostiary.demo.transcript import Transcript

    # A short path, because a UNIX socket's has at most 107 bytes (unix(7)); and one that all users may enter,
    # because started as root the roles run as other users.
    directory = Path(tempfile.mkdtemp(prefix="ostiary-demo-"))
    directory.chmod(0o755)
    transcript = Transcript(Console(highlight=False, soft_wrap=True))
    story = Story(directory=directory, transcript=transcript, processes=Processes(directory))
    finished = False
    try:
        play(story)
        transcript.finish()
        finished = True
    finally:
        story.close()
        if keep or not finished:
            output.note(f"kept: {directory}")
        else:
            shutil.rmtree(directory)
