"""Streams through the use case, the SDK and a real HTTP connection to a model's host."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from uuid import uuid4

import pytest

from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import choose_model
from chat_service.chat.conversation import Conversation
from chat_service.chat.ports import ChatMessage, ChatReply
from chat_service.settings import ChatSettings
from chat_service.turns.memory import ConversationKey, Items, Memory
from chat_service.turns.stores import open_stores
from daca_shared.domain import InvalidInput, TimedOut, Unavailable
from tests.fakes import FakeAnalytics, FakeOutbox, eventually
from tests.model_server import Fault, ModelServer, model_server


class Chat:
    """The use case on a real database and a real agent, with a model of the test's own."""

    def __init__(self, memory: Memory, agent: ChatAgent) -> None:
        self.memory = memory
        self.outbox = FakeOutbox()
        self.conversation = Conversation(
            FakeAnalytics(), self.outbox, self.memory, agent, max_text_length=100, timeout_s=5
        )

    async def history(self, message: ChatMessage) -> Items:
        return await self.memory.recall(ConversationKey(message.user_id, message.session_id))

    def is_at_rest(self) -> bool:
        return not self.conversation._streams and not self.memory._locks


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as server:
        yield server


@pytest.fixture
async def chat(
    environment: pytest.MonkeyPatch, tmp_path: Path, server: ModelServer
) -> AsyncIterator[Chat]:
    environment.setenv("OPENAI_BASE_URL", server.url)
    environment.setenv("CHAT_MODEL", "m")
    model = choose_model(ChatSettings.from_environment())
    async with open_stores(tmp_path / "chat.db") as stores:
        yield Chat(stores.memory, ChatAgent(model))
    await model.close()


def message(text: str = "hi") -> ChatMessage:
    return ChatMessage(user_id="alice", text=text, session_id=uuid4())


async def read(
    chat: Chat, sent: ChatMessage, timeout_s: float | None = None
) -> list[str | ChatReply]:
    async with aclosing(chat.conversation.stream(sent, timeout_s=timeout_s)) as events:
        return [event async for event in events]


async def test_deltas_come_one_by_one_and_the_whole_reply_last(chat: Chat) -> None:
    sent = message()
    *deltas, reply = await read(chat, sent)
    assert isinstance(reply, ChatReply)
    assert len(deltas) > 10
    assert "".join(map(str, deltas)) == reply.text
    assert "sent 5 messages before this one" in reply.text
    assert len(await chat.history(sent)) == 2
    assert chat.outbox.accepted == [sent]
    await eventually(chat.is_at_rest)


async def test_a_delta_does_not_wait_for_the_rest(chat: Chat, server: ModelServer) -> None:
    server.go.clear()
    async with aclosing(chat.conversation.stream(message())) as events:
        assert await anext(events) == "You"
        server.go.set()
        assert isinstance([event async for event in events][-1], ChatReply)


async def test_a_tool_call_in_a_stream_goes_there_and_back(chat: Chat, server: ModelServer) -> None:
    sent = message("what time is it?")
    *_, reply = await read(chat, sent)
    assert isinstance(reply, ChatReply)
    assert reply.text == f"The tool says {server.tool_results[0]}"
    assert len(await chat.history(sent)) == 4


async def test_a_stream_cut_short_is_a_failure_and_no_reply(
    chat: Chat, server: ModelServer
) -> None:
    server.faults = [Fault(cut_after=4)]
    sent = message()
    async with aclosing(chat.conversation.stream(sent)) as events:
        assert [await anext(events) for _ in range(4)] == ["You", " are", " a", " helpful"]
        with pytest.raises(Unavailable):
            await anext(events)
    assert await chat.history(sent) == []
    assert chat.outbox.accepted == [sent]
    await eventually(chat.is_at_rest)


async def test_a_failure_before_the_first_delta_is_the_same_error_as_in_a_reply(
    chat: Chat, server: ModelServer
) -> None:
    server.faults = [Fault(503), Fault(503)]
    with pytest.raises(Unavailable):
        await read(chat, message())


async def test_blank_text_is_refused_before_anything_happens(chat: Chat) -> None:
    with pytest.raises(InvalidInput):
        await read(chat, message(" "))
    assert chat.outbox.accepted == []


async def test_a_reader_who_leaves_stops_the_model_and_finds_what_came(
    chat: Chat, server: ModelServer
) -> None:
    server.go.clear()
    sent = message("a long story")
    async with aclosing(chat.conversation.stream(sent)) as events:
        assert await anext(events) == "You"
    await eventually(lambda: server.streams_left == 1)
    await eventually(chat.is_at_rest)
    assert await chat.history(sent) == [
        {"role": "user", "content": "a long story"},
        {"role": "assistant", "content": "You [stopped by the user]"},
    ]
    assert chat.outbox.accepted == [sent]


async def test_running_out_of_time_is_a_failure_and_leaves_no_turn(
    chat: Chat, server: ModelServer
) -> None:
    server.go.clear()
    sent = message()
    with pytest.raises(TimedOut):
        await read(chat, sent, timeout_s=0.3)
    await eventually(lambda: server.streams_left == 1)
    assert await chat.history(sent) == []
    await eventually(chat.is_at_rest)


async def test_the_next_message_sees_the_stopped_one(chat: Chat, server: ModelServer) -> None:
    server.go.clear()
    sent = message("first")
    async with aclosing(chat.conversation.stream(sent)) as events:
        await anext(events)
    server.go.set()
    again = sent.model_copy(update={"text": "second", "message_id": uuid4()})
    await chat.conversation.reply(again)
    contents = [item["content"] for item in server.requests[-1].body["messages"][1:]]
    assert contents == ["first", "You [stopped by the user]", "second"]


async def test_a_hundred_streams_stopped_at_random_leave_nothing_behind(
    chat: Chat, server: ModelServer
) -> None:
    before = len(asyncio.all_tasks())
    sent = [message() for _ in range(100)]

    async def read_some(one: ChatMessage) -> None:
        async with aclosing(chat.conversation.stream(one)) as events:
            for _ in range(random.randrange(40)):  # noqa: S311
                await anext(events, None)

    await asyncio.gather(*map(read_some, sent))
    await eventually(chat.is_at_rest)
    await eventually(lambda: len(asyncio.all_tasks()) <= before + 1)
    await eventually(lambda: server.connections == 0)
    ids = [one.message_id for one in chat.outbox.accepted]
    assert len(ids) == len(set(ids))
    for one in chat.outbox.accepted:
        assert len(await chat.history(one)) in (0, 2)
