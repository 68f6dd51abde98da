"""The calls in progress: how many there may be at once, and which wait for their callers."""

import asyncio
import time
from functools import partial
from typing import Any

from daca_shared.domain import LimitReached, TimedOut

_CHECK, _WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
# These last long and need no token, so they must not use up the limit for calls.
_LASTING = (_WATCH, "/grpc.reflection.")
_MAX_LASTING = 64
IDLE_S = 0.5
"""A live caller sends its request, and reads its answer, within this time."""
TOO_MANY = LimitReached("Too many calls at once; try again", retry_after_s=1)
_TOO_LATE = TimedOut("The call took too long")


class OpenCalls:
    """Counts calls, each from the beginning of its task to the end. grpc's own
    `maximum_concurrent_rpcs` also counts ended ones that their callers don't release."""

    def __init__(self, timeout_s: float, most: int) -> None:
        """After `timeout_s` a call ends, even if its caller sends no request or reads no answer.
        More than `most` at once are refused."""
        self._timeout_s, self._most = timeout_s, most
        self.ordinary, self.lasting = set[asyncio.Task[Any]](), set[asyncio.Task[Any]]()
        # Calls that wait for their callers to send or to read, and since when; in order.
        self._idle: dict[asyncio.Task[Any] | None, float] = {}

    def begin(self, path: str) -> bool:
        """Count the current task, a call of the method `path`. Returns whether there is room."""
        task = asyncio.current_task()
        if task is None:
            return True
        lasts = path.startswith(_LASTING)
        alike, limit = (self.lasting, _MAX_LASTING) if lasts else (self.ordinary, self._most)
        is_full = len(alike) >= limit and path != _CHECK
        if is_full and (lasts or not self._make_room()):
            return False
        alike.add(task)
        end = asyncio.get_running_loop().call_later(self._timeout_s, task.cancel, _TOO_LATE)
        if path == _WATCH:
            end.cancel()
        task.add_done_callback(partial(self._forget, end))
        return True

    def note_idle(self, *, is_idle: bool) -> None:
        """Note whether the current task's call waits for its caller."""
        task = asyncio.current_task()
        self._idle.pop(task, None)
        if is_idle and task in self.ordinary:
            self._idle[task] = time.monotonic()

    def _make_room(self) -> bool:
        """End the call that has waited longest for its caller, and return whether there was one:
        otherwise one client that sends nothing, or reads nothing, could keep all others out."""
        longest, since = next(iter(self._idle.items()), (None, 0.0))
        if longest is None or time.monotonic() - since < IDLE_S:
            return False
        longest.cancel(TOO_MANY)
        self.ordinary.discard(longest)
        del self._idle[longest]
        return True

    def _forget(self, end: asyncio.TimerHandle, task: asyncio.Task[Any]) -> None:
        end.cancel()
        self.ordinary.discard(task)
        self.lasting.discard(task)
        self._idle.pop(task, None)
