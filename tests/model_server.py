"""A local server with both of OpenAI's APIs, which fails when told to."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

TOOL = "get_current_time"


@dataclass(frozen=True)
class ModelRequest:
    path: str
    headers: dict[str, str]
    body: dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What a request gets instead of an answer."""

    status: int = 200
    """An error status, if not 200."""
    message: str = "the model host's own words"
    delay_s: float = 0
    drop: bool = False
    """Close the connection without an answer."""
    nonsense: str | None = None
    """Send this, as JSON with status 200."""
    cut_after: int | None = None
    """End a stream after so many words, as if it were complete."""


class ModelServer:
    """Calls the tool if the user asks for the time; otherwise echoes the instructions."""

    def __init__(self) -> None:
        self.url = ""
        self.requests: list[ModelRequest] = []
        self.faults: list[Fault] = []
        """One for each of the next requests."""
        self.always_calls_tool = False
        self.go = asyncio.Event()
        """Streams wait for this after their first word."""
        self.go.set()
        self.connections = 0
        """How many are open."""
        self.streams_left = 0
        """How many streams lost their reader before the end."""

    @property
    def tool_results(self) -> list[str]:
        """The tool's results, according to the last request."""
        body = self.requests[-1].body
        return _tool_results(body.get("messages") or body["input"])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request, then close the connection."""
        self.connections += 1
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            lines = [line.split(": ", 1) for line in head[1:] if line]
            headers = {name.lower(): value for name, value in lines}
            body = json.loads(await reader.readexactly(int(headers["content-length"])))
            request = ModelRequest(head[0].split()[1], headers, body)
            self.requests.append(request)
            fault = self.faults.pop(0) if self.faults else Fault()
            await asyncio.sleep(fault.delay_s)
            if request.body.get("stream") and fault.status == 200:
                await self._stream(reader, writer, request, fault)
            elif not fault.drop:
                self._answer(writer, request, fault)
        except ConnectionError:
            self.streams_left += 1
        finally:
            self.connections -= 1
            writer.close()

    def _answer(self, writer: asyncio.StreamWriter, request: ModelRequest, fault: Fault) -> None:
        answer = {"error": {"message": fault.message, "type": "test", "code": None}}
        if fault.status == 200:
            whole = _completion if request.path.endswith("/chat/completions") else _response
            answer = whole(request.body, calls_tool=self.always_calls_tool)
        data = (json.dumps(answer) if fault.nonsense is None else fault.nonsense).encode()
        writer.write(
            f"HTTP/1.1 {fault.status} X\r\ncontent-type: application/json\r\nretry-after-ms: 1\r\n"
            f"connection: close\r\ncontent-length: {len(data)}\r\n\r\n".encode()
            + data
        )

    async def _stream(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        request: ModelRequest,
        fault: Fault,
    ) -> None:
        """Chat Completions only, one word per chunk."""
        writer.write(
            b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        )
        text = _reply(request.body, calls_tool=False)
        if text is None:
            function = {"name": TOOL, "arguments": "{}"}
            call = {"index": 0, "id": "call_1", "type": "function", "function": function}
            writer.write(_chunk({"tool_calls": [call]}, None) + _chunk({}, "tool_calls"))
            return
        gone = asyncio.create_task(_until_closed(reader))
        go = asyncio.create_task(self.go.wait())
        for n, word in enumerate(text.split(" ")):
            if n == fault.cut_after:
                return
            writer.write(_chunk({"content": word if n == 0 else f" {word}"}, None))
            await writer.drain()
            await asyncio.wait({gone, go}, return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                go.cancel()
                self.streams_left += 1
                return
        writer.write(_chunk({}, "stop") + b"data: [DONE]\n\n")
        gone.cancel()


async def _until_closed(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        await reader.read()


def _chunk(delta: dict[str, Any], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    chunk = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [choice],
    }
    return f"data: {json.dumps(chunk)}\n\n".encode()


@asynccontextmanager
async def model_server() -> AsyncIterator[ModelServer]:
    """Run a server on a free port."""
    served = ModelServer()
    listener = await asyncio.start_server(served.serve, "127.0.0.1", 0)
    served.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield served
    finally:
        listener.close()


def _items(body: dict[str, Any]) -> list[dict[str, Any]]:
    given = body.get("messages") or body["input"]
    return [{"role": "user", "content": given}] if isinstance(given, str) else given


def _tool_results(items: list[dict[str, Any]]) -> list[str]:
    results = [i["content"] for i in items if i.get("role") == "tool"]
    return results + [i["output"] for i in items if i.get("type") == "function_call_output"]


def _reply(body: dict[str, Any], *, calls_tool: bool) -> str | None:
    """The text of the answer; None to call the tool instead."""
    items = _items(body)
    results = _tool_results(items)
    if calls_tool:
        return None
    if results:
        return f"The tool says {results[-1]}"
    if "time" in str([i["content"] for i in items if i.get("role") == "user"][-1]):
        return None
    systems = [i["content"] for i in items if i.get("role") == "system"]
    return str(systems[0] if systems else body["instructions"])


def _completion(body: dict[str, Any], *, calls_tool: bool) -> dict[str, Any]:
    text = _reply(body, calls_tool=calls_tool)
    call = {"id": "call_1", "type": "function", "function": {"name": TOOL, "arguments": "{}"}}
    message = {"role": "assistant", "content": text}
    if text is None:
        message["tool_calls"] = [call]  # type: ignore[assignment]
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [
            {
                "index": 0,
                "message": message,
                "finish_reason": "tool_calls" if text is None else "stop",
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }


def _response(body: dict[str, Any], *, calls_tool: bool) -> dict[str, Any]:
    text = _reply(body, calls_tool=calls_tool)
    item: dict[str, Any] = {
        "type": "function_call",
        "id": "fc_1",
        "call_id": "call_1",
        "name": TOOL,
        "arguments": "{}",
        "status": "completed",
    }
    if text is not None:
        content = {"type": "output_text", "text": text, "annotations": []}
        item = {
            "type": "message",
            "id": "msg_1",
            "role": "assistant",
            "status": "completed",
            "content": [content],
        }
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": body["model"],
        "status": "completed",
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 1,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": 1,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": 2,
        },
    }
