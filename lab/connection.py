"""An HTTP connection that uses little CPU, as the system under test needs the cores."""

import asyncio
import re
from typing import NamedTuple, cast
from urllib.parse import urlsplit

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Answer(NamedTuple):
    """A response."""

    status: int
    head: bytes
    body: bytes


class Connection(asyncio.Protocol):
    """One keep-alive connection, one request at a time."""

    def __init__(self) -> None:
        self.url = ""
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
        connection.url = url
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports have the methods of asyncio's, but don't inherit from them.
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
        """All that comes back until the server closes the connection, as asked; for streams."""
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


def chat_request(user_id: str, message_id: str, text: str = "Hello", path: str = "/chat/") -> bytes:
    body = f'{{"user_id":"{user_id}","text":"{text}","message_id":"{message_id}"}}'
    return (
        f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n\r\n{body}"
    ).encode()
