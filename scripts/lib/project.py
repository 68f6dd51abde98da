"""Where we are, and how people are told what goes on."""

from contextlib import suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class StackError(Exception):
    """Why the stack can't run, in words for the person at the terminal."""


def say(text: str) -> None:
    """Tell the person at the terminal, if there still is one (`scripts/run.sh | head`)."""
    with suppress(OSError):
        print(text, flush=True)
