"""Many clients that chat at once, for little CPU: the system under test needs the cores.

Each message has an id of its client's making, and is sent again with the same id until it is
accepted, as a good client does. A client is the only one of its users, so it knows what
their counts must be.
"""

import asyncio
import re
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, cast
from urllib.parse import urlsplit
from uuid import uuid4

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_COUNT = re.compile(rb'"message_count":(\d+|null)')
_RETRY_S = 0.05
# After this the message is given up, and reported as such.
_GIVE_UP_S = 40.0
_USERS_PER_CLIENT = 8


class Answer(NamedTuple):
    """What came back."""

    status: int
    head: bytes
    body: bytes


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self.used = False
        self._transport: asyncio.Transport | None = None
        self._data = b""
        self._answer: asyncio.Future[Answer] | None = None

    @classmethod
    async def open(cls, url: str) -> "Connection":
        parts = urlsplit(url)
        assert parts.hostname
        assert parts.port
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(cls, parts.hostname, parts.port)
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are asyncio's by their methods only.
        self._transport = cast(asyncio.Transport, transport)

    @property
    def is_open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    async def send(self, request: bytes, timeout_s: float) -> Answer:
        assert self._transport
        if self._transport.is_closing():
            raise ConnectionResetError
        self._data = b""
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        timer = asyncio.get_running_loop().call_later(timeout_s, self._expire)
        try:
            answer = await self._answer
            if b"\r\nconnection: close" in answer.head:
                self.close()
            return answer
        finally:
            timer.cancel()
            self.used = True

    async def read_to_end(self, request: bytes, timeout_s: float) -> bytes:
        """All that comes back to a request that asks the server to close, as for a stream."""
        try:
            await self.send(
                request.replace(b"\r\nhost", b"\r\nconnection: close\r\nhost"), timeout_s
            )
        except ConnectionResetError:
            return self._data
        raise AssertionError("not a stream")

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        length = _LENGTH.search(self._data, 0, end) if end >= 0 else None
        if length is None:
            return
        body = self._data[end + 4 :]
        if len(body) >= int(length[1]) and self._answer and not self._answer.done():
            self._answer.set_result(Answer(int(self._data[9:12]), self._data[:end], body))

    def connection_lost(self, error: Exception | None) -> None:
        self._fail(ConnectionResetError("in mid-answer" if self._data else "unanswered"))

    def _expire(self) -> None:
        self._fail(TimeoutError())
        self.close()

    def _fail(self, error: Exception) -> None:
        if self._answer and not self._answer.done():
            self._answer.set_exception(error)

    def close(self) -> None:
        if self._transport:
            self._transport.abort()


def chat_request(user_id: str, message_id: str, text: str = "Hello") -> bytes:
    body = f'{{"user_id":"{user_id}","text":"{text}","message_id":"{message_id}"}}'
    return (
        "POST /chat/ HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()


@dataclass
class Load:
    """What a load has seen so far."""

    url: str
    prefix: str = field(default_factory=lambda: f"load-{uuid4().hex[:8]}-")
    timeout_s: float = 15.0
    accepted: dict[str, str] = field(default_factory=dict)
    """The user of each message id that was answered with 200."""
    sent: int = 0
    """Distinct messages."""
    given_up: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    """Attempts that failed, by status or exception."""
    resent: int = 0
    """Requests that met a keep-alive connection which the server had just closed."""
    latencies_s: list[float] = field(default_factory=list)
    wrong_counts: list[str] = field(default_factory=list)
    countless: list[tuple[float, float]] = field(default_factory=list)
    """When chats that claimed no count began and ended."""
    counted: list[float] = field(default_factory=list)
    """When chats that told a count ended."""
    done: bool = False
    _known: Counter[str] = field(default_factory=Counter)

    @property
    def users(self) -> set[str]:
        return set(self.accepted.values())

    def failed(self, status_class: str = "") -> int:
        """Failed attempts whose status or exception begins so."""
        return sum(n for key, n in self.failures.items() if key.startswith(status_class))

    def full_service_after(self, moment: float) -> float:
        """Seconds from `moment` until the last of the chats that were begun since, or were
        under way then, and claimed no count."""
        assert any(end > moment for end in self.counted), "no chat told a count any more"
        return max((end - moment for _, end in self.countless if end > moment), default=0.0)

    async def client(self, number: int) -> None:
        connection: Connection | None = None
        while not self.done:
            user_id = f"{self.prefix}{number}-{self.sent % _USERS_PER_CLIENT}"
            connection = await self._chat(connection, user_id, str(uuid4()))
        if connection:
            connection.close()

    async def _chat(
        self, connection: Connection | None, user_id: str, message_id: str
    ) -> Connection | None:
        self.sent += 1
        request = chat_request(user_id, message_id)
        began = time.monotonic()
        attempts = 0
        while time.monotonic() - began < _GIVE_UP_S:
            attempts += 1
            try:
                if connection is None or not connection.is_open:
                    connection = await Connection.open(self.url)
                answer = await connection.send(request, self.timeout_s)
            except ConnectionResetError as error:
                # RFC 9112, 9.3.1: send again at once what a closing connection has not read.
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
            self.countless.append((began, now))
            return
        self.counted.append(now)
        # What was cut off and sent again may be counted already when it is answered.
        if int(match[1]) not in ((known,) if attempts == 1 else (known, known + 1)):
            self.wrong_counts.append(f"{user_id}: {int(match[1])}, not {known}")


@asynccontextmanager
async def load(url: str, clients: int = 16) -> AsyncIterator[Load]:
    """Closed-loop clients, until the end of the context; then each finishes its message."""
    running = Load(url)
    async with asyncio.TaskGroup() as group:
        for number in range(clients):
            group.create_task(running.client(number))
        try:
            yield running
        finally:
            running.done = True


def percentile(values: list[float], percent: float) -> float:
    """The value below which so many per cent are."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]
