"""A Chat Completions server that answers at once and uses little CPU: a raw protocol on uvloop.

`python -m bench.systems.model_server PORT`. The answer to a request that says
"slowly" is streamed at one word every three seconds.
"""

import asyncio
import json
import re
import sys
from typing import Any, cast

import uvloop

REPLY = "Hello! You have sent some messages before this one."
SLOWLY = "slowly"
_SLOW_WORDS, _SLOW_S = 60, 3.0
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream": ?true')
_COMMON = {"id": "chatcmpl-1", "created": 1, "model": "bench"}
_USAGE = {"prompt_tokens": 1, "completion_tokens": 10, "total_tokens": 11}


def _completion() -> bytes:
    message = {"role": "assistant", "content": REPLY}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {**_COMMON, "object": "chat.completion", "choices": [choice], "usage": _USAGE}
    body = json.dumps(answer).encode()
    head = f"content-type: application/json\r\ncontent-length: {len(body)}"
    return f"HTTP/1.1 200 OK\r\n{head}\r\n\r\n".encode() + body


def _chunk(delta: dict[str, Any] | None, finish: str | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    event: dict[str, Any] = {**_COMMON, "object": "chat.completion.chunk", "choices": choices}
    if delta is None:
        event["usage"] = _USAGE
    return _http_chunk(f"data: {json.dumps(event)}\n\n".encode())


def _http_chunk(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


_COMPLETION = _completion()
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_WORDS = [
    _chunk({"content": word if n == 0 else f" {word}"}) for n, word in enumerate(REPLY.split())
]
_STREAM_END = _chunk({}, "stop") + _chunk(None) + _http_chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"


class _Model(asyncio.Protocol):
    def __init__(self) -> None:
        self._data = b""
        self._transport: asyncio.Transport
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        end = self._data.find(b"\r\n\r\n")
        length = _LENGTH.search(self._data, 0, end) if end >= 0 else None
        if length is None or len(self._data) < end + 4 + int(length[1]):
            return
        body, self._data = self._data, b""
        if not _STREAM.search(body):
            self._transport.write(_COMPLETION)
        elif SLOWLY.encode() in body:
            self._transport.write(_STREAM_HEAD)
            self._say(_SLOW_WORDS)
        else:
            # One packet per write, as the reader must not get all at once.
            self._transport.write(_STREAM_HEAD)
            for word in _WORDS:
                self._transport.write(word)
            self._transport.write(_STREAM_END)

    def _say(self, words_left: int) -> None:
        if words_left == 0:
            self._transport.write(_STREAM_END)
            return
        self._transport.write(_WORDS[1])
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_SLOW_S, self._say, words_left - 1)

    def connection_lost(self, error: Exception | None) -> None:
        if self._timer:
            self._timer.cancel()


async def _serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(_Model, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(_serve(int(sys.argv[1])))
