"""Where the project is, and how its scripts talk to people."""

from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class StackError(Exception):
    """Why the stack can't run, for the person at the terminal."""


def say(text: str) -> None:
    """Print, unless nobody reads any more (`scripts/run.sh | head`)."""
    with suppress(OSError):
        print(text, flush=True)
