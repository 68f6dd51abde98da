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
from chat_service.chat.messages import Answer, ChatMessage, ToolCall, Turn
from chat_service.settings import ChatSettings
from daca_shared.domain import InvalidInput, TimedOut, Unavailable
from tests.chats import StoredChat, chatting
from tests.fakes import eventually
from tests.model_server import Fault, ModelServer, model_server


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as server:
        yield server


@pytest.fixture
async def chat(
    environment: pytest.MonkeyPatch, tmp_path: Path, server: ModelServer
) -> AsyncIterator[StoredChat]:
    environment.setenv("OPENAI_BASE_URL", server.url)
    environment.setenv("CHAT_MODEL", "m")
    model = choose_model(ChatSettings.from_environment())
    async with chatting(tmp_path / "chat.db", ChatAgent(model)) as chat:
        yield chat
    await model.close()


async def told(chat: StoredChat, message: ChatMessage) -> list[tuple[str, str, bool]]:
    turns = await chat.stores.turns.latest(message.conversation)
    return [(turn.prompt, turn.answer.text, turn.stopped) for turn in turns]


async def is_at_rest(chat: StoredChat, message: ChatMessage) -> bool:
    """Whether the turn of this message has ended completely."""
    if chat.conversation.streams:
        return False
    async with asyncio.timeout(5), chat.stores.locks.turn(message.conversation):
        return True


def message(text: str = "hi") -> ChatMessage:
    return ChatMessage(user_id="alice", text=text, session_id=uuid4())


async def read(
    chat: StoredChat, sent: ChatMessage, timeout_s: float | None = None
) -> list[str | ToolCall | Turn]:
    events = chat.conversation.stream(sent, timeout_s=timeout_s, with_tools=True)
    async with aclosing(events):
        return [event async for event in events]


async def test_deltas_come_one_by_one_and_the_whole_reply_last(chat: StoredChat) -> None:
    sent = message()
    *deltas, reply = await read(chat, sent)
    assert isinstance(reply, Turn)
    assert len(deltas) > 10
    text = reply.answer.text
    assert "".join(map(str, deltas)) == text
    assert "sent 0 messages before this one" in text
    assert await told(chat, sent) == [("hi", text, False)]
    assert await chat.count() == 1
    await eventually(lambda: is_at_rest(chat, sent))


async def test_a_delta_does_not_wait_for_the_rest(chat: StoredChat, server: ModelServer) -> None:
    server.go.clear()
    async with aclosing(chat.conversation.stream(message())) as events:
        assert await anext(events) == "You"
        server.go.set()
        assert isinstance([event async for event in events][-1], Turn)


async def test_a_tools_result_is_sent_back_in_a_stream(
    chat: StoredChat, server: ModelServer
) -> None:
    sent = message("what time is it?")
    first, *_, reply = await read(chat, sent)
    assert first == ToolCall("get_current_time", "{}")
    assert isinstance(reply, Turn)
    (result,) = server.tool_results
    assert reply.answer == Answer(
        f"The tool says {result}", (ToolCall("get_current_time", "{}", result),)
    )
    assert await chat.stores.turns.latest(sent.conversation) == [reply]


async def test_a_stream_cut_short_is_a_failure_and_no_reply(
    chat: StoredChat, server: ModelServer
) -> None:
    server.faults = [Fault(cut_after=4)]
    sent = message()
    async with aclosing(chat.conversation.stream(sent)) as events:
        assert [await anext(events) for _ in range(4)] == ["You", " are", " a", " helpful"]
        with pytest.raises(Unavailable):
            await anext(events)
    assert await told(chat, sent) == []
    assert await chat.count() == 0
    await eventually(lambda: is_at_rest(chat, sent))


async def test_a_failure_before_the_first_delta_is_the_same_error_as_in_a_reply(
    chat: StoredChat, server: ModelServer
) -> None:
    server.faults = [Fault(503), Fault(503)]
    with pytest.raises(Unavailable):
        await read(chat, message())


async def test_blank_text_is_refused_before_anything_happens(chat: StoredChat) -> None:
    with pytest.raises(InvalidInput):
        await read(chat, message(" "))
    assert not chat.conversation.streams
    assert await chat.count() == 0


async def test_a_disconnect_stops_the_model_and_keeps_what_came(
    chat: StoredChat, server: ModelServer
) -> None:
    server.go.clear()
    sent = message("a long story")
    async with aclosing(chat.conversation.stream(sent)) as events:
        assert await anext(events) == "You"
    await eventually(lambda: server.streams_left == 1)
    await eventually(lambda: is_at_rest(chat, sent))
    assert await told(chat, sent) == [("a long story", "You", True)]
    assert await chat.count() == 1


async def test_running_out_of_time_is_a_failure_and_leaves_no_turn(
    chat: StoredChat, server: ModelServer
) -> None:
    server.go.clear()
    sent = message()
    with pytest.raises(TimedOut):
        await read(chat, sent, timeout_s=0.3)
    await eventually(lambda: server.streams_left == 1)
    assert await told(chat, sent) == []
    assert await chat.count() == 0
    await eventually(lambda: is_at_rest(chat, sent))


async def test_the_next_message_sees_the_stopped_one(chat: StoredChat, server: ModelServer) -> None:
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
    chat: StoredChat, server: ModelServer
) -> None:
    before = len(asyncio.all_tasks())
    sent = [message() for _ in range(100)]

    async def read_some(one: ChatMessage) -> None:
        async with aclosing(chat.conversation.stream(one)) as events:
            for _ in range(random.randrange(40)):  # noqa: S311
                await anext(events, None)

    await asyncio.gather(*map(read_some, sent))
    await eventually(lambda: not chat.conversation.streams)
    await eventually(lambda: len(asyncio.all_tasks()) <= before + 1)
    await eventually(lambda: server.connections == 0)
    kept = [turn for one in sent for turn in await chat.stores.turns.latest(one.conversation)]
    assert len({turn.conversation for turn in kept}) == len(kept)
    assert len({turn.message_id for turn in kept}) == len(kept)
    assert await chat.count() == len(kept)
    assert any(turn.stopped for turn in kept)
    await asyncio.gather(*(is_at_rest(chat, one) for one in sent))
