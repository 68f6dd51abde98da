"""Turning chats away when there are more than the event loop can carry: at once, and before
they cost anything, so that those under way still end in time."""

import asyncio
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from chat_service.headers import SECURITY_HEADERS
from rpc.domain import Unavailable
from rpc.errors import http_headers, http_status

_RETRY_AFTER_S = 1.0
# Fewer chats than this are never turned away: a pause has other causes then.
_ALWAYS_ADMITTED = 32
# With that much delay in each of its steps, a chat takes some ten times as long as alone.
_MAX_LAG_S = 0.015
_TICK_S = 0.005
# A burst shows in the lag only once it is in.
_GROWTH_PER_TICK = 4
# Over what time lags are averaged: a short pause is no overload.
_MEMORY_S = 0.1


class Load:
    """How many chats are under way, and how late the event loop is."""

    def __init__(self, max_chats: int = 2000) -> None:
        self.limit = max_chats
        self.chats = 0
        self.turned_away = 0
        self.lag_s = 0.0
        self._room = _GROWTH_PER_TICK

    async def watch(self) -> None:
        """Measure the event loop's lag, for ever."""
        while True:
            due = time.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            lag_s = time.monotonic() - due
            weight = -math.expm1(-(lag_s + _TICK_S) / _MEMORY_S)
            self.lag_s += weight * (lag_s - self.lag_s)
            self._room = _GROWTH_PER_TICK

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """One chat is under way in this context. Raises `Unavailable` if that is too much."""
        if self.chats >= _ALWAYS_ADMITTED:
            self._room -= 1
        if self.chats >= self.limit or self._room < 0 or self._is_late():
            self.turned_away += 1
            raise Unavailable(
                "The service has more to do than it can; try again", retry_after_s=_RETRY_AFTER_S
            )
        self.chats += 1
        try:
            yield
        finally:
            self.chats -= 1

    def _is_late(self) -> bool:
        return self.chats >= _ALWAYS_ADMITTED and self.lag_s > _MAX_LAG_S


class ShedLoad:
    """Turns chats away before anything of them is read."""

    def __init__(self, app: ASGIApp, load: Load) -> None:
        self._app = app
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] != "http" or not scope["path"].startswith("/chat/"):
            await self._app(scope, receive, send)
            return
        try:
            with self._load.one_more():
                await self._app(scope, receive, send)
        except Unavailable as error:
            # Of ours only: the application answers its own errors.
            answer = JSONResponse(
                {"detail": error.message},
                http_status(error),
                http_headers(error) | SECURITY_HEADERS,
            )
            await answer(scope, receive, send)
