"""Chats beyond what the service can do, over a real socket: they never reach the application."""

import asyncio
from collections.abc import AsyncIterator

import httpx2
import pytest

from chat_service.access.overload import CountChats
from chat_service.web.http_protocol import limited_http
from tests.fakes import FakeChat, eventually
from tests.http.gateways import gateway_app, served

BODY = {"user_id": "alice", "text": "hi"}


@pytest.fixture
def chat() -> FakeChat:
    return FakeChat()


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    app = CountChats(gateway_app(chat), chat.load)
    async with served(app, http=limited_http(chat.load)) as client:
        yield client


@pytest.mark.parametrize("path", ["/chat/", "/chat/stream"])
async def test_a_chat_beyond_what_the_service_can_do_is_turned_away_and_not_counted(
    chat: FakeChat, http: httpx2.AsyncClient, path: str
) -> None:
    chat.load.chats, chat.load.lag_s = 1000, 1
    for _ in range(3):  # over one connection
        refused = await http.post(path, json=BODY)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        assert "more to do than it can" in refused.json()["detail"]
        assert refused.headers["x-content-type-options"] == "nosniff"
    assert chat.outbox.accepted == []
    assert (await http.get("/healthz")).status_code == 200
    chat.load.chats = 0
    assert (await http.post(path, json=BODY)).status_code == 200
    assert chat.load.chats == 0


async def test_a_refused_body_in_pieces_is_not_taken_for_the_next_request(
    chat: FakeChat, http: httpx2.AsyncClient
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        yield b'{"user_id":"alice",'
        await asyncio.sleep(0.05)
        chat.load.chats = 0
        yield b'"text":"hi"}'

    chat.load.chats, chat.load.lag_s = 1000, 1
    assert (await http.post("/chat/", content=pieces())).status_code == 503
    assert (await http.post("/chat/", json=BODY)).status_code == 200
    assert len(chat.outbox.accepted) == 1


async def test_a_refused_client_that_wants_no_more_is_let_go(
    chat: FakeChat, http: httpx2.AsyncClient
) -> None:
    chat.load.chats, chat.load.lag_s = 1000, 1
    refused = await http.post("/chat/", json=BODY, headers={"connection": "close"})
    assert refused.status_code == 503


async def test_who_never_sends_the_whole_body_is_no_load(
    chat: FakeChat, http: httpx2.AsyncClient
) -> None:
    go_on = asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b'{"user_id":"alice",'
        await go_on.wait()
        yield b'"text":"hi"}'

    waiting = asyncio.create_task(http.post("/chat/", content=half()))
    await asyncio.sleep(0.1)
    assert chat.load.chats == 0
    chat.agent.delay_s = 0.2
    go_on.set()
    await eventually(lambda: chat.load.chats == 1)
    assert (await waiting).status_code == 200
    await eventually(lambda: chat.load.chats == 0)
