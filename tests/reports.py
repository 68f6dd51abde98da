"""A service's log and metrics, captured for tests."""

import io
import json
import logging
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from typing import Any

from prometheus_client import REGISTRY

from daca_shared.observe.logs import configure_logging


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Report:
    """The lines of a log."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """All lines; fails if one isn't JSON."""
        return [json.loads(line) for line in self.text.splitlines()]

    def of(self, logger: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["logger"] == logger]


@contextmanager
def reported(
    level: str = "INFO", *, into: type[io.StringIO] = io.StringIO, **options: Any
) -> Iterator[Report]:
    """Log as configured in the services, but to memory instead of stderr."""
    root = logging.getLogger()
    before, level_before = list(root.handlers), root.level
    stream = into()
    with redirect_stderr(stream):
        configure_logging(level, **{"secrets": [], **options})
    try:
        yield Report(stream)
    finally:
        root.handlers[:] = before
        root.setLevel(level_before)


def sample(name: str, **labels: str) -> float:
    """A metric's value; 0 if it doesn't exist."""
    return REGISTRY.get_sample_value(name, labels) or 0.0


def total(name: str, **labels: str) -> float:
    """The sum of all time series with these labels."""
    return sum(
        s.value
        for family in REGISTRY.collect()
        for s in family.samples
        if s.name == name and labels.items() <= s.labels.items()
    )


def scraped(port: int | None) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        return str(answer.read().decode())
