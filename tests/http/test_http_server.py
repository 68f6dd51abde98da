"""The HTTP server itself: what it refuses, how it stops, and how it handles disconnects."""

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
from starlette.types import ASGIApp

from chat_service.web.server import HttpServer
from daca_shared.addresses import PortTaken
from tests.fakes import FOREVER_S, FakeChat, eventually
from tests.http.gateways import NO_TLS, body, gateway_app, served
from tests.tokens import secret_identity

HEAD_TIMEOUT_S = 0.3


class App:
    """Answers only once allowed, and records its requests."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.asked: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.asked.append(scope["path"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"answered"})


@pytest.fixture
def app() -> App:
    return App()


@asynccontextmanager
async def running(app: ASGIApp, port: int = 0, **options: Any) -> AsyncIterator[HttpServer]:
    server = HttpServer(app, "127.0.0.1", port, head_timeout_s=HEAD_TIMEOUT_S, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(1)


async def say(server: HttpServer, data: bytes) -> bytes:
    """Send data. Returns all that comes back until the server closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    with contextlib.suppress(ConnectionError):
        writer.write(data)
        async with asyncio.timeout(5):
            answer = await reader.read()
    writer.close()
    return answer


async def get(server: HttpServer, path: str = "/") -> str:
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        return (await client.get(path)).text


async def test_a_head_that_is_too_long_is_refused(app: App) -> None:
    async with running(app) as server:
        answer = await say(server, b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 70_000)
        assert answer.startswith(b"HTTP/1.1 431 ")
        assert app.asked == []
        assert await get(server) == "answered"


async def test_a_request_for_two_hosts_is_refused() -> None:
    chat = FakeChat()
    content = json.dumps(body()).encode()
    request = b"POST /chat/ HTTP/1.1\r\nConnection: close\r\nContent-Length: %d\r\n%s\r\n%s"
    async with running(gateway_app(chat)) as server:
        good = await say(server, request % (len(content), b"Host: a\r\n", content))
        bad = await say(server, request % (len(content), b"Host: a\r\nHost: b\r\n", content))
    assert good.startswith(b"HTTP/1.1 200 ")
    assert bad.startswith(b"HTTP/1.1 400 ")
    assert b"The request has more than one Host header" in bad
    assert len(chat.turns.kept) == 1


@pytest.mark.parametrize("begun", [b"", b"GET / HTTP/1.1\r\nHost: a"], ids=["nothing", "a part"])
async def test_a_connection_without_a_request_head_is_closed(app: App, begun: bytes) -> None:
    async with running(app) as server:
        await say(server, begun)
    assert app.asked == []


async def test_requests_on_one_connection_are_answered_in_their_order(app: App) -> None:
    async with running(app) as server:
        asks = [f"GET /{n} HTTP/1.1\r\nHost: a\r\n" for n in range(3)]
        answer = await say(server, ("\r\n".join(asks) + "Connection: close\r\n\r\n").encode())
    assert answer.count(b"HTTP/1.1 200 ") == 3
    assert app.asked == ["/0", "/1", "/2"]


async def test_a_port_that_is_taken_is_named_with_its_setting(app: App) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(PortTaken, match=rf"{port}.*CHAT_HTTP_PORT"):
            async with running(app, port):
                pass


async def test_two_servers_cannot_share_a_port(app: App) -> None:
    async with running(app) as server:
        with pytest.raises(PortTaken):
            async with running(app, server.port):
                pass
        assert await get(server) == "answered"


async def test_a_port_is_free_again_at_once(app: App) -> None:
    async with running(app) as server:
        assert await get(server) == "answered"
    async with running(app, server.port) as server:
        assert await get(server) == "answered"


async def test_a_stop_waits_for_requests_under_way_and_takes_no_new_ones(app: App) -> None:
    app.go.clear()
    async with running(app) as server:
        under_way = asyncio.create_task(get(server, "/first"))
        await eventually(lambda: app.asked)
        stopping = asyncio.create_task(server.stop(5))
        await asyncio.sleep(0.1)
        with pytest.raises(httpx2.ConnectError):
            await get(server, "/second")
        assert not stopping.done()
        app.go.set()
        assert await under_way == "answered"
        async with asyncio.timeout(4):
            await stopping
    assert app.asked == ["/first"]


async def test_a_stop_waits_no_longer_than_its_timeout(
    app: App, caplog: pytest.LogCaptureFixture
) -> None:
    app.go.clear()
    async with running(app) as server:
        under_way = asyncio.create_task(get(server))
        await eventually(lambda: app.asked)
        async with asyncio.timeout(4):
            await server.stop(0.2)
        assert not under_way.done()
        app.go.set()
        await asyncio.gather(under_way, return_exceptions=True)
    assert caplog.records == []


async def test_requests_that_outlive_a_stops_grace_are_ended(
    caplog: pytest.LogCaptureFixture,
) -> None:
    chat = FakeChat()
    chat.agent.delay_s = FOREVER_S
    gateway = gateway_app(chat)
    async with (
        running(gateway, end_requests=gateway.end_requests) as server,
        httpx2.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", verify=NO_TLS) as client,
    ):
        whole = asyncio.create_task(client.post("/chat/", json=body()))
        async with client.stream("POST", "/chat/stream", json=body()) as stream:
            pieces = stream.aiter_lines()
            assert await anext(pieces) == "event: delta"
            await eventually(lambda: len(chat.agent.messages) == 2)
            await server.stop(0.1)
            assert server.serving.done()
            with pytest.raises(httpx2.RemoteProtocolError):
                _ = [piece async for piece in pieces]
        answer = await whole
    assert (answer.status_code, answer.json()["code"]) == (503, "STOPPING")
    assert [turn.stopped for turn in chat.turns.kept] == [True]
    assert [one.getMessage() for one in caplog.records if one.levelname == "ERROR"] == []


async def test_a_connection_that_waits_for_its_next_request_does_not_hold_up_a_stop(
    app: App,
) -> None:
    async with running(app) as server, httpx2.AsyncClient() as client:
        await client.get(f"http://127.0.0.1:{server.port}/")
        async with asyncio.timeout(4):
            await server.stop(5)


async def test_the_server_ends_once_it_is_stopped(app: App) -> None:
    async with running(app) as server:
        await asyncio.sleep(0.05)
        assert not server.serving.done()
        await server.stop(1)
        async with asyncio.timeout(4):
            await server.serving


@pytest.mark.parametrize("size", [900_000, 5_000_000])
async def test_a_client_that_still_sends_a_refused_body_gets_the_answer(size: int) -> None:
    async with (
        served(gateway_app(FakeChat())) as anyone,
        served(gateway_app(FakeChat(), identity=secret_identity())) as known,
    ):
        for _ in range(10):
            assert (await known.post("/chat/", content=b"x" * size)).status_code == 401
            answer = await anyone.post("/chat/", content=b"x" * size)
            assert answer.status_code == (413 if size > 1_000_000 else 422)


async def test_a_client_that_never_ends_a_refused_body_is_disconnected() -> None:
    chat = FakeChat()
    async with served(gateway_app(chat, identity=secret_identity())) as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", client.base_url.port)
        writer.write(b"POST /chat/ HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\nx")
        async with asyncio.timeout(10):
            answer = await reader.read()
        writer.close()
        assert re.findall(rb"HTTP/1.1 (\d+)", answer) == [b"401"]
        assert (await client.post("/chat/", json=body())).status_code == 401
