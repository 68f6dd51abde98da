"""Checks for every fuzz test."""

import logging
from collections.abc import Iterator

import pytest

from tests.real_services import SECRET


class _BadLines(logging.Handler):
    """Collects the lines that hostile input must never cause."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        line = self.format(record)
        # grpc has one poller for all event loops of a process. On a busy machine it may still have
        # something for the loop of an earlier test, and logs that here. A service has one loop.
        if "PollerCompletionQueue" in line and line.endswith("RuntimeError: Event loop is closed"):
            return
        if record.levelno >= logging.ERROR or SECRET in line:
            self.lines.append(line)


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Checks that no input causes a log line at level error, or one with a secret at any level."""
    handler, root = _BadLines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield
    root.removeHandler(handler)
    root.setLevel(level)
    assert handler.lines == []
