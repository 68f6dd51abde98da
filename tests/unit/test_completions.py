"""The client of Chat Completions, over a real connection to a host that the test scripts."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import openai
import pytest

from chat_service.hosts.completions import CompletionsClient
from lab.machine import free_port

JSON, EVENTS = "application/json", "text/event-stream"
FINISH = {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
type Create = Callable[..., Awaitable[Any]]


def delta(text: str) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}]}


def events(*data: Any) -> bytes:
    """A stream with each item as an event; strings are sent as they are."""
    lines = [item if isinstance(item, str) else f"data: {json.dumps(item)}" for item in data]
    return "".join(f"{line}\n\n" for line in lines).encode()


@asynccontextmanager
async def host(
    body: bytes, kind: str = EVENTS, status: int = 200, *, more: bool = False, headers: str = ""
) -> AsyncIterator[Create]:
    """Creates completions at a host with this answer, which never ends if `more`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\nconnection: close\r\n{headers}\r\n"
        writer.write(head.encode() + body)
        await writer.drain()
        if more:
            await reader.read()
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    # Only where something is to time out: a busy machine may well stand still for 0.3 s.
    timeout_s = 0.3 if more else 20
    client = CompletionsClient(f"http://127.0.0.1:{port}/v1", "key", timeout_s=timeout_s)
    try:
        yield client.chat.completions.create
    finally:
        await client.close()
        listener.close()
        await listener.wait_closed()


async def texts(create: Create) -> list[str]:
    chunks = await create(model="m", messages=[], stream=True)
    return [c.delta.content or "" async for chunk in chunks for c in chunk.choices]


@pytest.mark.parametrize(
    "end",
    [[FINISH, "data: [DONE]"], [FINISH], ["data: [DONE]"], ["data:[DONE]", "rubbish"]],
    ids=str,
)
async def test_a_stream_with_any_of_the_usual_ends_is_whole(end: list[Any]) -> None:
    async with host(events(": a comment", delta("a"), "event: x", delta("b"), *end)) as create:
        assert "".join(await texts(create)) == "ab"


@pytest.mark.parametrize(
    "end", [{"more": True}, {"headers": "content-length: 999999\r\n"}], ids=["silent", "broken"]
)
async def test_a_connection_that_ends_badly_after_the_finish_loses_no_answer(end: Any) -> None:
    async with host(events(delta("a"), FINISH), **end) as create:
        assert "".join(await texts(create)) == "a"


async def test_an_answer_that_comes_all_at_once_lets_others_have_their_turn() -> None:
    # Compressed, as by a proxy, it is a few kilobytes, which come in one read.
    whole = gzip.compress(events(*[delta("a")] * 9999, FINISH))
    reading: list[str] = []
    async with host(whole, headers="content-encoding: gzip\r\n") as create:
        async for _ in await create(model="m", messages=[], stream=True):
            if not reading:
                asyncio.get_running_loop().call_soon(reading.append, "the others' turn")
            reading.append("a piece")
    assert len(reading) == 10_001
    assert reading[-1] == "a piece"  # and the others' turn before it


@pytest.mark.parametrize("said", [[], [delta("a")]], ids=["at once", "after a piece"])
async def test_a_stream_that_ends_without_an_end_is_a_lost_connection(said: list[Any]) -> None:
    async with host(events(*said)) as create:
        with pytest.raises(openai.APIConnectionError, match="before its finish"):
            await texts(create)


async def test_a_stream_that_breaks_off_is_a_lost_connection() -> None:
    async with host(events(delta("a")), headers="content-length: 999999\r\n") as create:
        with pytest.raises(openai.APIConnectionError):
            await texts(create)


async def test_a_host_that_goes_silent_in_a_stream_times_out() -> None:
    async with host(events(delta("a")), more=True) as create:
        with pytest.raises(openai.APITimeoutError):
            await texts(create)


async def test_an_error_in_a_stream_is_an_error() -> None:
    async with host(events(delta("a"), {"error": {"message": "full"}})) as create:
        with pytest.raises(openai.APIError) as raised:
            await texts(create)
    assert not isinstance(raised.value, openai.APIConnectionError)


async def test_a_stream_of_nonsense_is_an_error() -> None:
    async with host(events("data: {")) as create:
        with pytest.raises(openai.APIError):
            await texts(create)


async def test_a_chunk_may_be_long() -> None:
    text = "x" * 2**20
    async with host(events(delta(text), FINISH)) as create:
        assert "".join(await texts(create)) == text


async def test_fields_of_unexpected_types_are_tolerated() -> None:
    odd = {"id": 5, "created": "now", **delta("a")}
    async with host(events(odd, FINISH)) as create:
        chunks = await create(model="m", messages=[], stream=True)
        assert [c.delta.content async for chunk in chunks for c in chunk.choices] == ["a", None]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, openai.BadRequestError),
        (401, openai.AuthenticationError),
        (403, openai.PermissionDeniedError),
        (404, openai.NotFoundError),
        (409, openai.ConflictError),
        (418, openai.APIStatusError),
        (422, openai.UnprocessableEntityError),
        (429, openai.RateLimitError),
        (500, openai.InternalServerError),
        (503, openai.InternalServerError),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
async def test_an_error_status_is_openais_error_with_the_hosts_headers(
    status: int, kind: type[openai.APIStatusError], stream: bool
) -> None:
    async with host(b"{}", JSON, status, headers="retry-after: 7\r\n") as create:
        with pytest.raises(openai.APIStatusError) as raised:
            await create(model="m", messages=[], stream=stream)
    assert type(raised.value) is kind
    assert raised.value.response.headers["retry-after"] == "7"


async def test_a_host_that_is_not_there_is_a_lost_connection() -> None:
    client = CompletionsClient(f"http://127.0.0.1:{free_port()}/v1", "key", timeout_s=5)
    with pytest.raises(openai.APIConnectionError):
        await client.chat.completions.create(model="m", messages=[])
    await client.close()
