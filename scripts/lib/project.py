"""Where the project is, and how its scripts talk to people."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class StackError(Exception):
    """Why the stack can't run, for the person at the terminal."""


def say(text: str) -> None:
    """Print, unless nobody reads any more (`scripts/run.sh | head`)."""
    try:
        print(text, flush=True)
    except OSError:
        # Otherwise Python would flush again when it exits, and print the error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
