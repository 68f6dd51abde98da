"""Many clients that chat concurrently.

Each client gives its messages ids, and sends a message again with the same id until it is accepted,
as a good client does. No other client sends messages of its users, so it knows what their counts
must be.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from uuid import uuid4

from lab.connection import Answer, Connection, chat_request

_COUNT = re.compile(rb'"message_count":(\d+|null)')
_RETRY_S = 0.05
_CHECK_EVERY_S = 0.1
# After this time a client gives up a message, and reports that.
_GIVE_UP_S = 40.0
USERS_PER_CLIENT = 8


@dataclass
class Load:
    """A load, and its results so far."""

    urls: Sequence[str]
    """The URLs of the replicas that are ready. Each client uses one of them."""
    prefix: str = field(default_factory=lambda: f"load-{uuid4().hex[:8]}-")
    timeout_s: float = 15.0
    pause_s: float = 0.0
    """How long each client waits after each answer."""
    accepted: dict[str, str] = field(default_factory=dict)
    """Message ids that were answered with 200, and their users."""
    sent: int = 0
    """How many distinct messages were sent."""
    given_up: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Failed attempts, by status or exception."""
    resent: int = 0
    """Requests on a keep-alive connection that the server had just closed."""
    latencies_s: list[float] = field(default_factory=list)
    wrong_counts: list[str] = field(default_factory=list)
    without_count: list[tuple[float, float]] = field(default_factory=list)
    """When each chat whose reply has no count began and ended."""
    with_count: list[float] = field(default_factory=list)
    """When each chat whose reply has a count ended."""
    done: bool = False
    _known: Counter[str] = field(default_factory=Counter)

    @property
    def users(self) -> set[str]:
        return set(self.accepted.values())

    def failed(self, status_class: str = "") -> int:
        """Failed attempts whose status or exception begins with `status_class`."""
        return sum(n for key, n in self.failures.items() if key.startswith(status_class))

    def full_service_after(self, moment: float) -> float:
        """Seconds from `moment` until the end of the last chat whose reply has no count, among
        the chats that ended after it."""
        assert any(end > moment for end in self.with_count), "no reply has a count any more"
        return max((end - moment for _, end in self.without_count if end > moment), default=0.0)

    def has_counts(self, for_s: float) -> bool:
        """Whether chats have ended in the last `for_s` seconds, and all their replies have a
        count."""
        since = time.monotonic() - for_s
        return self.with_count[-1:] > [since] and all(end <= since for _, end in self.without_count)

    async def client(self, number: int) -> None:
        connection: Connection | None = None
        while not self.done:
            user_id = f"{self.prefix}{number}-{self.sent % USERS_PER_CLIENT}"
            connection = await self._chat(connection, number, user_id, str(uuid4()))
            await asyncio.sleep(self.pause_s)
        if connection:
            connection.close()

    async def _chat(
        self, connection: Connection | None, number: int, user_id: str, message_id: str
    ) -> Connection | None:
        self.sent += 1
        request = chat_request(user_id, message_id)
        began = time.monotonic()
        attempts = 0
        while time.monotonic() - began < _GIVE_UP_S:
            attempts += 1
            try:
                connection = await self._connected(connection, number)
                answer = await connection.send(request, self.timeout_s)
            except ConnectionResetError as error:
                # RFC 9112, 9.3.1: retry at once if the server closed the connection unread.
                if connection and connection.used and str(error) == "unanswered":
                    self.resent += 1
                    connection = None
                    continue
                failure = "reset " + str(error)
            except OSError as error:
                failure = type(error).__name__
            else:
                if answer.status == 200:
                    self._accept(answer, user_id, message_id, began, attempts)
                    return connection
                failure = str(answer.status)
            self.failures[failure] += 1
            if connection and not connection.is_open:
                connection = None
            await asyncio.sleep(_RETRY_S)
        self.given_up += 1
        return connection

    async def _connected(self, connection: Connection | None, number: int) -> Connection:
        if not self.urls:
            raise ConnectionRefusedError
        url = self.urls[number % len(self.urls)]
        if connection and connection.is_open and connection.url == url:
            return connection
        if connection:
            connection.close()
        return await Connection.open(url)

    def _accept(
        self, answer: Answer, user_id: str, message_id: str, began: float, attempts: int
    ) -> None:
        now = time.monotonic()
        self.latencies_s.append(now - began)
        self.accepted[message_id] = user_id
        known, self._known[user_id] = self._known[user_id], self._known[user_id] + 1
        match = _COUNT.search(answer.body)
        assert match, answer.body
        if match[1] == b"null":
            self.without_count.append((began, now))
            return
        self.with_count.append(now)
        # This holds also after a retry: the kept reply is repeated, or nothing was kept yet.
        if int(match[1]) != known:
            self.wrong_counts.append(f"{user_id}: {int(match[1])}, not {known}")


@asynccontextmanager
async def load(url: str, clients: int = 16, pause_s: float = 0) -> AsyncIterator[Load]:
    """Run closed-loop clients until the context ends; then each finishes its message."""
    running = Load([url], pause_s=pause_s)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(running.client(number))
        try:
            yield running
        finally:
            running.done = True


@asynccontextmanager
async def balanced_load(
    urls: Sequence[str], clients: int = 16, pause_s: float = 0
) -> AsyncIterator[Load]:
    """Like `load`, but through a load balancer, which avoids replicas that aren't ready."""
    async with load(urls[0], clients, pause_s) as running, asyncio.TaskGroup() as group:
        checks = [group.create_task(_keep_checking(url, running, urls)) for url in urls]
        try:
            yield running
        finally:
            for check in checks:
                check.cancel()


async def _keep_checking(url: str, running: Load, urls: Sequence[str]) -> None:
    while True:
        is_ready = await _is_ready(url)
        ready = {*running.urls, url} if is_ready else {*running.urls} - {url}
        running.urls = [each for each in urls if each in ready]
        await asyncio.sleep(_CHECK_EVERY_S)


async def _is_ready(url: str) -> bool:
    try:
        connection = await Connection.open(url)
    except OSError:
        return False
    try:
        answer = await connection.send(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\n\r\n", 1)
    except OSError:
        return False
    finally:
        connection.close()
    return answer.status == 200


def percentile(values: Sequence[float], percent: float) -> float:
    """The nearest-rank percentile; NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    rank = -(-len(ordered) * percent // 100)
    return ordered[max(0, int(rank) - 1)]
