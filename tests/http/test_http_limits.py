"""Connections of one client end, whatever it sends or leaves unread."""

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from typing import Any

import httpx2
import pytest
from limits import parse_many
from starlette.types import ASGIApp

from chat_service.access.admission import Admission
from chat_service.access.rates import Rates
from chat_service.web.edge import Edge
from chat_service.web.server import HttpServer
from tests.fakes import ANY_HOST, FakeChat, Shouting, eventually
from tests.http.gateways import body, gateway_app
from tests.reports import reported

HEAD = b"POST /chat/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@asynccontextmanager
async def serving(app: ASGIApp, **options: Any) -> AsyncIterator[HttpServer]:
    server = HttpServer(app, "127.0.0.1", 0, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop(1)


async def until_closed(server: HttpServer, *pieces: bytes) -> bytes:
    """Send pieces one by one. Returns all that comes back until the server disconnects."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    answer = asyncio.create_task(reader.read())
    with closing(writer):
        for piece in pieces:
            if not answer.done():
                writer.write(piece)
                await asyncio.sleep(0.05)
        return await asyncio.wait_for(answer, 10)


def in_a_hurry(app: ASGIApp) -> ASGIApp:
    """A gateway's edge with short timeouts for bodies and for answers."""
    return Edge(
        app, lambda app: app, ANY_HOST, Admission(), answer_timeout_s=0.3, body_timeout_s=0.3
    )


async def read_all(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"read"})


@pytest.mark.parametrize("pieces", [[HEAD], [HEAD, *[b"x"] * 20]], ids=["nothing", "in drops"])
async def test_a_body_that_never_comes_ends_its_connection(pieces: list[bytes]) -> None:
    began = time.monotonic()
    async with serving(in_a_hurry(read_all)) as server:
        with reported() as report:
            answer = await until_closed(server, *pieces)
            await eventually(lambda: report.of("chat_service.web.edge"))
    assert time.monotonic() - began < 2, "it was kept for the rest of the body"
    assert [line["error"] for line in report.of("chat_service.web.edge")] == ["timed_out"]
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"The request's body did not come in time" in answer
    assert b'"code":"BODY_TIMED_OUT"' in answer


async def test_an_answer_that_never_comes_ends_its_connection() -> None:
    async def waits(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.Event().wait()

    async with serving(in_a_hurry(waits)) as server:
        answer = await until_closed(server, GET + b"Connection: close\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 504 ")
    assert b'"code":"REPLY_TIMED_OUT"' in answer


@pytest.mark.parametrize(
    "pieces",
    [
        [b"\r\n"],
        [b"\r\n"] * 5,
        [GET + b"\r\n"],
        [GET + b"\r\n", b"\r\n"],
        [GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"],
        [GET + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\r\n"],
        [GET + b"Connection: Upgrade\r\nUpgrade: any\r\n\r\n", b"\x00" * 100],
        [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"],
        [b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost:1\r\n\r\n"],
    ],
)
async def test_a_connection_without_a_further_request_is_closed(pieces: list[bytes]) -> None:
    async with serving(gateway_app(FakeChat()), head_timeout_s=0.5) as server:
        await until_closed(server, *pieces)


async def test_an_unread_stream_frees_its_place_within_the_chats_time_limit() -> None:
    chat = FakeChat(timeout_s=0.5)
    chat.conversation.agent = Shouting()
    content = json.dumps(body()).encode()
    async with serving(gateway_app(chat)) as server:
        with closing(socket.create_connection(("127.0.0.1", server.port))) as client:
            head = b"POST /chat/stream HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n"
            client.sendall(head % len(content) + content)
            await eventually(lambda: chat.admission.chats == 1)
            await eventually(lambda: chat.admission.chats == 0, timeout_s=15)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems can't end such a connection")
async def test_an_unread_connection_is_closed() -> None:
    async def endless(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while not left.done():
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})

    left = asyncio.get_running_loop().create_future()

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        answering = asyncio.create_task(endless(scope, receive, send))
        await receive()
        left.set_result(await receive())
        await answering

    async with serving(watched, stuck_timeout_s=1) as server:
        with closing(socket.create_connection(("127.0.0.1", server.port))) as client:
            client.sendall(GET + b"\r\n")
            async with asyncio.timeout(20):
                assert (await left)["type"] == "http.disconnect"


async def test_a_trailer_is_no_header() -> None:
    app = gateway_app(FakeChat(), rates=Rates(address=parse_many("1/minute")))
    sent = httpx2.Request("POST", "http://localhost/", json=body()).read()
    statuses = []
    async with serving(app, trusted_proxies=["127.0.0.1/32"]) as server:
        for n in range(2):
            answer = await until_closed(
                server,
                b"POST /chat/ HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n"
                b"Connection: close\r\n\r\n%x\r\n%s\r\n0\r\nX-Forwarded-For: 192.0.2.%d\r\n\r\n"
                % (len(sent), sent, n),
            )
            statuses.append(answer[9:12])
    assert statuses == [b"200", b"429"]


SERVER = """
import asyncio, resource
resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
from chat_service.web.server import HttpServer
from tests.fakes import FakeChat
from tests.http.gateways import gateway_app

async def main():
    server = HttpServer(gateway_app(FakeChat()), "127.0.0.1", 0,
                        head_timeout_s=1)
    await server.start()
    print(server.port, flush=True)
    await server.serving

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_idle_connections_leave_files_for_the_rest_of_the_process() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", SERVER, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    port = int(await process.stdout.readline())
    idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(200)]
    try:
        await asyncio.sleep(0.5)
        assert len(os.listdir(f"/proc/{process.pid}/fd")) < 110  # noqa: PTH208 - a count alone
        async with httpx2.AsyncClient(timeout=30) as client:
            answer = await client.get(f"http://127.0.0.1:{port}/healthz")
        assert answer.json() == {"status": "ok"}
    finally:
        for _, writer in idle:
            writer.close()
        process.kill()
        await process.wait()
