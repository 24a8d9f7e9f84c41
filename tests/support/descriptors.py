"""Secrets for a command line's `fd:N`: what is given is on a pipe, and the command closes its end."""

from __future__ import annotations

import os


def descriptor_with(content: bytes) -> str:
    """`fd:N` of a pipe that holds the content (at most what a pipe takes, 64 KiB) and ends there."""
    reading, writing = os.pipe()
    os.write(writing, content)
    os.close(writing)
    return f"fd:{reading}"
