"""A local model host that answers exactly as a test says, like OpenAI or differently."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

JSON, EVENTS = "application/json", "text/event-stream"


@dataclass(frozen=True)
class Reply:
    """An answer to one request. `more` is then sent repeatedly."""

    body: bytes
    kind: str = JSON
    status: int = 200
    more: bytes = b""
    retry: str = "retry-after-ms: 1"
    """The header that says when to retry."""
    pieces: int = 1
    """In how many pieces the body is sent."""
    hangs: bool = False
    """Whether the body doesn't end."""


type Answer = Reply | Callable[[dict[str, Any]], Reply]


def name_of(value: object) -> str | None:
    """A test's id, which must be the same in every process; None lets pytest make one."""
    return None if callable(value) else str(value)[:60]


@dataclass
class OddHost:
    answers: list[Answer] = field(default_factory=list)
    """The answers to the next requests. The last one answers all later requests, too."""
    requests: list[dict[str, Any]] = field(default_factory=list)
    url: str = ""
    sent: int = 0
    """How many bytes of `more` were sent."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = int(head.split("content-length: ")[1].split("\r\n")[0])
            request = json.loads(await reader.readexactly(length))
            self.requests.append(request)
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            reply = answer if isinstance(answer, Reply) else answer(request)
            writer.write(
                f"HTTP/1.1 {reply.status} X\r\ncontent-type: {reply.kind}\r\n"
                f"{reply.retry}\r\nconnection: close\r\n\r\n".encode()
            )
            size = -(-len(reply.body) // reply.pieces) or 1
            for start in range(0, len(reply.body), size):
                await asyncio.sleep(0.02 if start else 0)
                writer.write(reply.body[start : start + size])
            if reply.hangs:
                await reader.read()
            while reply.more:
                writer.write(reply.more)
                self.sent += len(reply.more)
                await writer.drain()
            await writer.drain()
        writer.close()


@asynccontextmanager
async def odd_host(*answers: Answer) -> AsyncIterator[OddHost]:
    host = OddHost([*answers])
    listener = await asyncio.start_server(host.serve, "127.0.0.1", 0)
    host.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield host
    finally:
        listener.close()


def error(words: Any, status: int = 400) -> Reply:
    return Reply((words if isinstance(words, str) else json.dumps(words)).encode(), JSON, status)


def events(*data: Any) -> Reply:
    """A stream with each item as an event; bytes are sent as they are."""
    lines = [d if isinstance(d, bytes) else f"data: {json.dumps(d)}\n\n".encode() for d in data]
    return Reply(b"".join(lines), EVENTS)


def delta(finish: str | None = None, **fields: Any) -> dict[str, Any]:
    """A chunk of a stream."""
    return {"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]}


def message(finish: str | None = "stop", **fields: Any) -> dict[str, Any]:
    """A complete answer."""
    fields = {"role": "assistant", **fields}
    return {"choices": [{"index": 0, "message": fields, "finish_reason": finish}]}


def either(finish: str | None = "stop", **fields: Any) -> Answer:
    """One message, streamed or not, as requested."""

    def answer(request: dict[str, Any]) -> Reply:
        if request.get("stream"):
            return events(delta(**fields), delta(finish), b"data: [DONE]\n\n")
        return Reply(json.dumps(message(finish, **fields)).encode())

    return answer


def calling(
    name: Any = "get_current_time",
    arguments: Any = "{}",
    finish: str = "tool_calls",
    **more: Any,
) -> Answer:
    """A tool call, streamed or not, as requested."""
    call = {"id": "1", "index": 0, "type": "function", **more}
    call["function"] = {"name": name, "arguments": arguments}
    return either(finish, tool_calls=[{k: v for k, v in call.items() if v is not ...}])


def response(*output: dict[str, Any], status: str = "completed") -> dict[str, Any]:
    """A complete answer of OpenAI's Responses API."""
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "model": "m", "status": status,
        "output": list(output), "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip


def spoken(part: dict[str, Any]) -> dict[str, Any]:
    """A message in the output of a response."""
    return {
        "type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
        "content": [part],
    }  # fmt: skip


def roles(request: dict[str, Any]) -> Sequence[str]:
    return [item.get("role", item.get("type")) for item in request.get("messages", [])]


def whole(*output: dict[str, Any], status: str = "completed") -> Reply:
    """An answer of OpenAI's Responses API."""
    return Reply(json.dumps(response(*output, status=status)).encode())


def kept(*output: dict[str, Any], status: str = "completed") -> Reply:
    """An answer of OpenAI's Responses API, as a stream without deltas."""
    ended = response(*output, status=status)
    event = {"type": "response.completed", "response": ended, "sequence_number": 1}
    done = {"type": "response.output_item.done", "output_index": 0, "sequence_number": 0}
    return events(*(done | {"item": item} for item in output), event)


def as_asked(*output: dict[str, Any]) -> Callable[[dict[str, Any]], Reply]:
    """An answer of OpenAI's Responses API, streamed or not, as requested."""
    return lambda request: (kept if request.get("stream") else whole)(*output)


THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
NOON = spoken({"type": "output_text", "text": "It is noon", "annotations": []})
