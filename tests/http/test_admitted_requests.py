"""Which chats are admitted over HTTP, and which are refused, on a real server."""

import asyncio
import json
import re
from collections.abc import AsyncIterator

import httpx2
import pytest

from tests.fakes import FOREVER_S, FakeChat, eventually, watched
from tests.http.gateways import body, gateway_app, served

type Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]

BURST = 256
BODY = json.dumps(body()).encode()


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(gateway_app(chat)) as client:
        yield client


def overload(chat: FakeChat) -> None:
    chat.admission.chats = BURST
    chat.admission.note_lag(1)


def relieve(chat: FakeChat) -> None:
    chat.admission.chats = 0
    for _ in range(20):
        chat.admission.note_lag(0)


def request(start: str = "POST /chat/ HTTP/1.1", *headers: str, body: bytes = BODY) -> bytes:
    head = [start, "Host: test", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(head).encode() + body


async def connect(http: httpx2.AsyncClient) -> Connection:
    return await asyncio.open_connection("127.0.0.1", http.base_url.port)


async def answers_to(connection: Connection, data: bytes) -> list[int]:
    """The statuses of all answers to pipelined requests; the last one closes the connection."""
    reader, writer = connection
    writer.write(data)
    async with asyncio.timeout(20):
        answers = await reader.read()
    writer.close()
    return [int(status) for status in re.findall(rb"HTTP/1.1 (\d{3})", answers)]


async def exchange(http: httpx2.AsyncClient, data: bytes) -> list[int]:
    """The same over a new connection."""
    return await answers_to(await connect(http), data)


@pytest.mark.parametrize("path", ["/chat/", "/chat/stream"])
async def test_an_idle_service_answers_all_of_a_large_burst(
    chat: FakeChat, http: httpx2.AsyncClient, path: str
) -> None:
    # With plain sockets, as the HTTP client shares the server's loop, and would keep it busy.
    chat_once = request(f"POST {path} HTTP/1.1", "Connection: close")
    connections = [await connect(http) for _ in range(BURST)]
    async with watched(chat.admission):
        answers = await asyncio.gather(*(answers_to(each, chat_once) for each in connections))
    assert answers == [[200]] * BURST
    assert (len(chat.turns.kept), chat.admission.turned_away) == (BURST, 0)


@pytest.mark.parametrize("path", ["/chat/", "/chat/stream"])
async def test_an_excess_chat_is_refused_and_not_counted(
    chat: FakeChat, http: httpx2.AsyncClient, path: str
) -> None:
    overload(chat)
    for _ in range(3):  # over one connection
        refused = await http.post(path, json=body())
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "more to do than it can" in refused.json()["detail"]
        assert refused.headers["x-content-type-options"] == "nosniff"
        assert refused.headers["x-request-id"]
    assert (chat.turns.kept, chat.admission.turned_away) == ([], 3)
    # Reading doesn't count as load.
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/conversations?user_id=alice")).status_code == 200
    relieve(chat)
    assert (await http.post(path, json=body())).status_code == 200
    await eventually(lambda: chat.admission.chats == 0)


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_large_body_is_refused_while_too_many_are_held(
    chat: FakeChat, http: httpx2.AsyncClient, *, chunked: bool
) -> None:
    history = [{"role": "assistant", "content": "x" * 7000}] * 20
    asked = {"role": "user", "content": "hi"}
    large = json.dumps({"messages": [*history, asked]}).encode()

    async def chunks() -> AsyncIterator[bytes]:
        for at in range(0, len(large), 10_000):
            yield large[at : at + 10_000]

    async def send() -> httpx2.Response:
        content = chunks() if chunked else large
        headers = {"content-type": "application/json"}
        return await http.post("/v1/chat/completions", content=content, headers=headers)

    chat.admission.hold(64_000_000, of=1_000_000)
    refused = await send()
    assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    assert refused.json()["code"] == "OVERLOADED"
    assert (await http.post("/chat/", json=body())).status_code == 200
    chat.admission.let_go(64_000_000)
    assert (await send()).status_code == 200
    for _ in range(3):  # no answer has left anything behind
        chat.admission.hold(21_000_000, of=1_000_000)


@pytest.mark.parametrize(
    "target",
    ["/chat/", "/%63hat/", "/chat%2F", "/chat/?x=y", "http://test/chat/", "http://test/%63hat/",
     "/chat/stream", "/chat/%73tream", "http://other:81/chat/stream"],
)  # fmt: skip
async def test_no_spelling_of_the_path_bypasses_the_refusal(
    chat: FakeChat, http: httpx2.AsyncClient, target: str
) -> None:
    start = f"POST {target} HTTP/1.1"
    assert await exchange(http, request(start, "Connection: close")) == [200]
    # A stream's client has read the answer a moment before its chat ends.
    await eventually(lambda: chat.admission.chats == 0)
    overload(chat)
    assert await exchange(http, request(start, "Connection: close")) == [503]
    assert len(chat.turns.kept) == 1


async def test_no_earlier_request_on_the_connection_bypasses_the_refusal(
    chat: FakeChat, http: httpx2.AsyncClient
) -> None:
    overload(chat)
    welcome = request("GET / HTTP/1.1", body=b"")
    last = request("POST /chat/ HTTP/1.1", "Connection: close")
    assert await exchange(http, welcome + request() + welcome + last) == [200, 503, 200, 503]
    assert chat.turns.kept == []


async def test_a_refusal_does_not_wait_for_the_body(
    chat: FakeChat, http: httpx2.AsyncClient
) -> None:
    overload(chat)
    reader, writer = await connect(http)
    writer.write(request(body=b"x" * 999_999)[:200])
    async with asyncio.timeout(5):
        assert (await reader.readline()).split()[1] == b"503"
    writer.close()


async def test_a_refused_body_in_pieces_is_not_taken_for_the_next_request(
    chat: FakeChat, http: httpx2.AsyncClient
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"user_id":"alice",'
        await asyncio.sleep(0.05)
        relieve(chat)
        yield b'"text":"hi"}'

    overload(chat)
    assert (await http.post("/chat/", content=pieces())).status_code == 503
    relieve(chat)
    assert (await http.post("/chat/", json=body())).status_code == 200
    assert len(chat.turns.kept) == 1


async def test_a_request_counts_as_load_once_its_body_has_come(
    chat: FakeChat, http: httpx2.AsyncClient
) -> None:
    go_on = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b'{"user_id":"alice",'
        await go_on.wait()
        yield b'"text":"hi"}'

    waiting = asyncio.create_task(http.post("/chat/", content=half()))
    await asyncio.sleep(0.1)
    assert chat.admission.chats == 0
    chat.agent.delay_s = 0.2
    go_on.set()
    await eventually(lambda: chat.admission.chats == 1)
    assert (await waiting).status_code == 200
    await eventually(lambda: chat.admission.chats == 0)


async def test_a_stream_is_under_way_until_its_reader_leaves(
    chat: FakeChat, http: httpx2.AsyncClient
) -> None:
    chat.agent.delay_s = FOREVER_S
    async with http.stream("POST", "/chat/stream", json=body()) as response:
        assert response.status_code == 200
        assert chat.admission.chats == 1
    await eventually(lambda: chat.admission.chats == 0)
