"""Ctrl-C, and other ways to stop a stack."""

import asyncio
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from typing import Any

# Even if something hangs: a process, a disk, the event loop itself.
_STOP_WITHIN_S = 19.0


class StopButton:
    """Handles SIGINT, SIGTERM and SIGHUP. Kills if a stop is too slow, or at a second Ctrl-C."""

    def __init__(self, kill: Callable[[], None]) -> None:
        self._kill = kill
        self._is_pressed = False
        self._pressed = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # Under nohup, which ignores SIGHUP, the stack goes on.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._press)

    async def ends(self, work: Coroutine[Any, Any, None]) -> None:
        """Do the work until it is done, or until a signal cancels it."""
        tasks = asyncio.create_task(work), asyncio.create_task(self._pressed.wait())
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        if not tasks[0].cancelled():
            tasks[0].result()

    def _press(self, number: int, _: object) -> None:
        if self._is_pressed:
            if number == signal.SIGINT:
                self._give_up()
            return
        self._is_pressed = True
        # In a thread, as it must work when the event loop doesn't.
        timer = threading.Timer(_STOP_WITHIN_S, self._give_up)
        timer.daemon = True
        timer.start()
        self._loop.call_soon_threadsafe(self._pressed.set)

    def _give_up(self) -> None:
        self._kill()
        os._exit(1)
