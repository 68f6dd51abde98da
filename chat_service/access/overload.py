"""Turning chats away when there are more than the event loop can carry: at once, and before
they cost anything, so that those under way still end in time."""

import asyncio
import json
import logging
import math
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chat_service.web.headers import SECURITY_HEADERS
from daca_shared.calls.errors import http_headers, http_status
from daca_shared.domain import Unavailable

log = logging.getLogger(__name__)

CHAT_PATHS = "/chat/"
"""How the paths begin of the HTTP requests that are chats."""

_RETRY_AFTER_S = 1.0
# Fewer chats than this are never turned away: a pause has other causes then.
_ALWAYS_ADMITTED = 20
# With that much delay in each of its steps, a chat takes some ten times as long as alone.
_MAX_LAG_S = 0.015
_TICK_S = 0.003
# A burst shows in the lag only once it is in.
_MOST_PER_S, _MOST_AT_ONCE = 400, 3.0
# Over what time lags are averaged: a short pause is no overload.
_MEMORY_S = 0.1
# From how many chats on the lag is measured and chats start together, and how long the first
# waits for the others.
_MANY, _GATHER_S = 10, 0.01


class Load:
    """How many chats are under way, and how late the event loop is."""

    def __init__(self, max_chats: int = 2000) -> None:
        self.limit = max_chats
        self.chats = 0
        self.turned_away = 0
        self.lag_s = 0.0
        self._room = _MOST_AT_ONCE
        self._coming = 0
        self._start: asyncio.Task[None] | None = None
        self._many = asyncio.Event()

    async def watch(self) -> None:
        """Measure the event loop's lag while many chats are under way, for ever, and tell of those
        who were turned away: once a second, as a line for each would be a part of the load."""
        told, next_time = self.turned_away, 0.0
        while True:
            if self.turned_away > told and time.monotonic() > next_time:
                log.warning("overload: %d chats were turned away", self.turned_away - told)
                told, next_time = self.turned_away, time.monotonic() + 1
            if self.chats + self._coming < _MANY and self.turned_away == told:
                self.lag_s = 0
                self._many.clear()
                await self._many.wait()
            due = time.monotonic() + _TICK_S
            await asyncio.sleep(_TICK_S)
            lag_s = time.monotonic() - due
            # Whose body has not come since costs nothing, and is not to be in others' way.
            self._coming = 0
            weight = -math.expm1(-(lag_s + _TICK_S) / _MEMORY_S)
            self.lag_s += weight * (lag_s - self.lag_s)
            more = _MOST_PER_S * (lag_s + _TICK_S)
            self._room = min(_MOST_AT_ONCE, max(0, self._room) + more)

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """One chat is under way in this context. Raises `Unavailable` if that is too much."""
        if self.is_too_much():
            raise _too_much()
        with self.under_way():
            yield

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """One chat, asked for or not, is under way in this context."""
        self._coming = max(0, self._coming - 1)
        self.chats += 1
        try:
            yield
        finally:
            self.chats -= 1

    def is_too_much(self) -> bool:
        """Whether another chat must be turned away now; it counts as admitted if not."""
        chats = self.chats + self._coming
        if chats >= _MANY:
            self._many.set()
        if chats >= _ALWAYS_ADMITTED:
            self._room -= 1
            if chats >= self.limit or self._room < 0 or self.lag_s > _MAX_LAG_S:
                self.turned_away += 1
                return True
        self._coming += 1
        return False

    async def start_together(self) -> None:
        """If many chats are under way, wait up to 10 ms for others to start with: they take
        their steps together, which then cost a sixth less (ADR 0020)."""
        if self.chats < _MANY:
            return
        if self._start is None or self._start.done():
            self._start = asyncio.create_task(asyncio.sleep(_GATHER_S))
        await asyncio.shield(self._start)


def _too_much() -> Unavailable:
    return Unavailable(
        "The service has more to do than it can; try again", retry_after_s=_RETRY_AFTER_S
    )


class CountChats:
    """Counts the chats that are under way over HTTP. Who is too many is turned away before, in
    `chat_service.web.http_protocol`."""

    def __init__(self, app: ASGIApp, load: Load) -> None:
        self._app = app
        self._load = load

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; it counts once its body is here, as until then it costs nothing,
        and those who never send theirs must not be in the way of others."""
        if scope["type"] != "http" or not scope["path"].startswith(CHAT_PATHS):
            await self._app(scope, receive, send)
            return
        with ExitStack() as counted:

            async def counting_receive() -> Message:
                message = await receive()
                if message["type"] == "http.request" and not message.get("more_body", False):
                    counted.enter_context(self._load.under_way())
                    await self._load.start_together()
                return message

            await self._app(scope, counting_receive, send)


def refusal() -> bytes:
    """The whole HTTP answer to a chat that is turned away."""
    error = _too_much()
    body = json.dumps({"detail": error.message}).encode()
    headers = {
        "content-type": "application/json",
        "content-length": str(len(body)),
        **http_headers(error),
        **SECURITY_HEADERS,
    }
    lines = [f"HTTP/1.1 {http_status(error)} Service Unavailable"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body
