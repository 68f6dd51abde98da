"""Reports of what has ended, made together and a moment later: one by one, in the middle of all
else that a request runs through, each would cost several times as much."""

import asyncio
import atexit
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_MOMENT_S = 0.01


class _Waiting:
    """Reports to be made, and by which event loop."""

    def __init__(self) -> None:
        self._reports: list[Callable[[], None]] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, report: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        self._reports.append(report)
        # A loop that has been closed will not make them.
        if len(self._reports) == 1 or loop is not self._loop:
            self._loop = loop
            loop.call_later(_MOMENT_S, self.make)

    def make(self) -> None:
        reports, self._reports = self._reports, []
        for report in reports:
            try:
                report()
            except Exception:
                log.exception("a report could not be made")


_waiting = _Waiting()
report_soon = _waiting.add
"""Call this function in a moment, or when the process ends."""
make_reports = _waiting.make
"""Make all reports that wait, now."""

atexit.register(make_reports)
