"""Load shedding: when there are more chats than the service can carry, some are refused at once, so
that their callers can try elsewhere, and those under way still end in time."""

import logging
import math
import resource
import time
from typing import NoReturn

from daca_shared.domain import Unavailable
from daca_shared.observe.metrics import LAG_EVERY_S

log = logging.getLogger(__name__)

# A chat takes some fifteen turns of the event loop. If each is 50 ms late, that adds 0.75 s.
_MAX_LAG_S, _CALM_LAG_S = 0.05, 0.015
# The weight of the latest measurement: a single pause of the loop is no overload.
_LAG_WEIGHT = 0.4
# A burst of up to 256 chats is always admitted. If the loop isn't calm for a second, or while more
# than 256 chats come, that is overload: the limit then moves between 32 and 256 (see ADR 0011).
_LARGEST_BURST, _FEWEST = 256, 32
_BURST_S = 1.0
_DECREASE, _INCREASE = 0.9, 1
# A large body is refused if all others hold this much. Decoded, one may need six times its size.
_MOST_HELD_BYTES, _LARGE_BYTES = 64_000_000, 64_000
# Files that are open without any chat. Each chat adds its caller's connection and the model's.
_FILES_AT_REST, _FILES_OF_A_CHAT = 48, 2


def most_chats(wanted: int) -> int:
    """How many chats at once: as many as `wanted`, if the limit on open files allows them."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(1, (files - _FILES_AT_REST) // _FILES_OF_A_CHAT)
    if most >= wanted:
        return wanted
    log.warning("only %d chats at once: `ulimit -n` allows %d open files", most, files)
    return most


class Admission:
    """Admits or refuses each chat, for HTTP and gRPC alike. Like a semaphore, it is a context
    manager, inside which a chat is under way. Entering raises `Unavailable` for one too many."""

    def __init__(self, max_chats: int = 2000) -> None:
        self._max_chats = max_chats
        self.chats = 0
        self.turned_away = 0
        self.lag_s = 0.0
        """How late the event loop is: a moving average."""
        # Requests whose bodies have not come yet: a late loop would otherwise admit all of them.
        # Reset at each measurement, as a body that never comes must not take up a place.
        self._arriving = 0
        self._limit: float = _LARGEST_BURST
        self._is_overloaded = False
        # When a measurement last agreed with `_is_overloaded`, and how many chats were taken since.
        self._confirmed_at, self._taken = time.monotonic(), 0
        self._measured_at = math.inf
        self._held_bytes = 0
        self._known_turned_away = 0  # at the latest measurement

    def note_lag(self, lag_s: float) -> None:
        """Note a measurement of the event loop's lag, made every `LAG_EVERY_S`."""
        now = time.monotonic()
        self._arriving, self._measured_at = 0, now
        self.lag_s = self._averaged(lag_s)
        is_busy = self.lag_s >= _CALM_LAG_S
        if is_busy == self._is_overloaded:
            self._confirmed_at, self._taken = now, 0
        elif now - self._confirmed_at > _BURST_S or self._taken > _LARGEST_BURST:
            self._is_overloaded, self._limit = is_busy, _LARGEST_BURST
        if self.lag_s < _MAX_LAG_S:
            self._limit = min(_LARGEST_BURST, self._limit + _INCREASE)
        elif self._is_overloaded and self.turned_away > self._known_turned_away:
            self._limit = max(_FEWEST, self._limit * _DECREASE)
        self._known_turned_away = self.turned_away

    def let_come(self) -> None:
        """A chat's request begins to arrive. Raises `Unavailable` if it is one too many."""
        self._check(self._arriving)
        self._arriving += 1

    def hold(self, size: int, of: int) -> None:
        """Count `size` more bytes of a body, which has `of` bytes by now, until `let_go`. Raises
        `Unavailable` if this body is large, and all others together are too large."""
        self._held_bytes += size
        if size and of > _LARGE_BYTES and self._held_bytes - of >= _MOST_HELD_BYTES:
            self._turn_away()

    def let_go(self, size: int) -> None:
        self._held_bytes -= size

    def __enter__(self) -> None:
        self._arriving = max(0, self._arriving - 1)
        self._check(arriving=0)
        self.chats += 1
        self._taken += 1

    def __exit__(self, *_: object) -> None:
        self.chats -= 1

    def _averaged(self, lag_s: float) -> float:
        return self.lag_s + _LAG_WEIGHT * (lag_s - self.lag_s)

    def _check(self, arriving: int) -> None:
        """Raises `Unavailable` if one more is too many, beside those under way and `arriving`."""
        # If the next measurement is overdue, the loop is late by at least this much already.
        overdue_s = time.monotonic() - self._measured_at - LAG_EVERY_S
        lag_s = max(self.lag_s, self._averaged(overdue_s))
        is_loaded = self._is_overloaded or lag_s >= _MAX_LAG_S
        is_full = is_loaded and self.chats + arriving >= self._limit
        if is_full or self.chats >= self._max_chats:
            self._turn_away()

    def _turn_away(self) -> NoReturn:
        self.turned_away += 1
        problem = "The service has more to do than it can; try again"
        raise Unavailable(problem, code="OVERLOADED", retry_after_s=1)
