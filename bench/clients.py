"""Clients that use little CPU, as they share the cores with what is measured."""

import asyncio
import json
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

from bench.measure import Failed, Sample, closed_loop
from lab.connection import Answer, Connection, chat_request
from lab.load import USERS_PER_CLIENT

_RETRY_AFTER = re.compile(rb"\r\nretry-after: (\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: chunked", re.IGNORECASE)
_FIRST_TEXT = re.compile(rb'event: delta|"content"')
_TIMEOUT_S = 40.0


class ChunkedConnection(Connection):
    """Also reads chunked responses."""

    def data_received(self, data: bytes) -> None:
        """A piece of a response. One without a length ends with an empty chunk."""
        if not _CHUNKED.search(self._data + data):
            super().data_received(data)
            return
        self._data += data
        if self._data.endswith(b"\r\n0\r\n\r\n") and self._answer and not self._answer.done():
            head, _, body = self._data.partition(b"\r\n\r\n")
            self._answer.set_result(Answer(int(head[9:12]), head, body))


class StreamConnection(ChunkedConnection):
    """Notes when a stream's first text arrives."""

    def __init__(self) -> None:
        super().__init__()
        self.first_text: float | None = None

    async def send(self, request: bytes, timeout_s: float) -> Answer:
        """The whole stream, once it has ended."""
        self.first_text = None
        return await super().send(request, timeout_s)

    def data_received(self, data: bytes) -> None:
        """A piece of the stream, or of an error, which isn't a stream."""
        super().data_received(data)
        if self.first_text is None and _FIRST_TEXT.search(self._data):
            self.first_text = time.perf_counter()


class HttpClient:
    """One keep-alive connection. Each call sends one request."""

    def __init__(
        self, url: str, request: Callable[[], bytes], kind: type[Connection] = Connection
    ) -> None:
        self._url = url
        self._request = request
        self._kind = kind
        self._connection: Connection | None = None

    async def __call__(self) -> float:
        """Seconds to the answer, or to a stream's first text. Raises `Failed`."""
        request = self._request()
        try:
            if self._connection is None or not self._connection.is_open:
                self._connection = await self._kind.open(self._url)
            began = time.perf_counter()
            answer = await self._connection.send(request, _TIMEOUT_S)
        except OSError as error:
            raise Failed(type(error).__name__, 0.05) from None
        ended = time.perf_counter()
        if answer.status != 200:
            wait = _RETRY_AFTER.search(answer.head)
            raise Failed(str(answer.status), float(wait[1]) if wait else 0.05)
        if isinstance(self._connection, StreamConnection):
            if self._connection.first_text is None:
                raise Failed("stream without text", 0.05)
            return self._connection.first_text - began
        return ended - began

    @property
    def has_text(self) -> bool:
        """Whether its stream's first text has arrived."""
        connection = self._connection
        return isinstance(connection, StreamConnection) and connection.first_text is not None

    def close(self) -> None:
        if self._connection:
            self._connection.close()


def post(path: str, body: dict[str, Any]) -> bytes:
    """A whole HTTP request."""
    data = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n{data}"
    ).encode()


def get(path: str) -> bytes:
    """A whole HTTP request."""
    return f"GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


def messages_of(client: int, path: str = "/chat/") -> Callable[[], bytes]:
    """Messages from a client's users in turn, each in a new conversation."""
    users = cycle([f"client-{client}-{number}" for number in range(USERS_PER_CLIENT)])
    return lambda: chat_request(next(users), str(uuid4()), path=path)


async def http_load(
    url: str,
    requests: Sequence[Callable[[], bytes]],
    seconds: float,
    kind: type[Connection] = Connection,
) -> Sample:
    """A closed loop with one client for each of `requests`."""
    return await clients_load([HttpClient(url, request, kind) for request in requests], seconds)


async def clients_load(clients: Sequence[HttpClient], seconds: float) -> Sample:
    """A closed loop of these clients, which are closed at its end."""
    try:
        return await closed_loop(clients, seconds)
    finally:
        for client in clients:
            client.close()


async def go_load(
    caller: Path, target: str, seconds: float, *, app: str = "", clients: int = 1, users: int = 0
) -> Sample:
    """`GetAnalytics` from the Go caller, bench/go."""
    command = [
        caller, "-target", target, "-app", app, "-clients", str(clients),
        "-length", f"{seconds}s", "-users", str(users),
    ]  # fmt: skip
    # Not through the event loop: uvloop forks, and a fork of a process that uses gRPC can hang.
    run = partial(subprocess.run, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=True)
    seen = json.loads((await asyncio.to_thread(run, command)).stdout)
    return Sample(
        latencies_s=[us / 1e6 for us in seen["latencies_us"]],
        answered=len(seen["latencies_us"]),
        errors=Counter(seen["errors"]),
        seconds=seen["seconds"],
        cpu_s={"generator": seen["cpu_us"] / 1e6},
    )
