"""A message that is sent again with the same id: one answer, one turn, one count."""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from chat_service.chat.messages import ChatMessage, ConversationKey
from daca_shared.domain import Unavailable
from lab.postgres import Place
from tests.chats import SESSION, SlowAgent, StoredChat, chatting
from tests.fakes import ChatStores, FakeAgent, FakeRecorder, eventually


@pytest.fixture
def agent() -> SlowAgent:
    agent = SlowAgent()
    agent.go.set()
    return agent


@pytest.fixture
async def chat(place: Place, agent: SlowAgent) -> AsyncIterator[StoredChat]:
    async with chatting(place, agent) as chat:
        yield chat


def message(text: str = "hi", session_id: UUID | None = SESSION, **fields: object) -> ChatMessage:
    given = {"user_id": "alice", "text": text, "message_id": uuid4(), **fields}
    return ChatMessage.model_validate(given | ({"session_id": session_id} if session_id else {}))


async def test_a_message_that_was_answered_gets_the_same_answer(
    chat: StoredChat, agent: SlowAgent
) -> None:
    sent = message()
    first = await chat.conversation.reply(sent)
    await chat.say("another")
    assert await chat.conversation.reply(sent) == first
    # Even if its other fields differ.
    other = sent.model_copy(update={"text": "changed", "session_id": uuid4(), "tags": ("t",)})
    assert await chat.conversation.reply(other) == first
    assert len(agent.seen) == 2
    assert await chat.count() == 2


async def test_a_repeated_stream_answers_at_once(chat: StoredChat, agent: SlowAgent) -> None:
    sent = message()
    first = await chat.conversation.reply(sent)
    assert [event async for event in chat.conversation.stream(sent)] == ["answer 1", first]
    assert (len(agent.seen), await chat.count()) == (1, 1)


@pytest.mark.parametrize("session_id", [SESSION, None])
async def test_two_concurrent_sends_get_one_answer(
    chat: StoredChat, agent: SlowAgent, session_id: UUID | None
) -> None:
    sent = message(session_id=session_id).model_dump(exclude=None if session_id else {"session_id"})
    agent.go.clear()
    replying = [
        asyncio.create_task(chat.conversation.reply(ChatMessage.model_validate(sent)))
        for _ in range(2)
    ]
    await eventually(lambda: len(agent.running) == 1)
    await asyncio.sleep(0.1)
    agent.go.set()
    one, two = await asyncio.gather(*replying)
    assert one == two
    assert (len(agent.seen), await chat.count()) == (1, 1)


async def test_concurrent_sends_to_two_processes_get_one_answer(
    database_url: SecretStr, agent: SlowAgent
) -> None:
    recorder = FakeRecorder()
    async with (
        chatting(database_url, agent, recorder) as here,
        chatting(database_url, agent, recorder) as there,
    ):
        for _ in range(3):
            agent.go.clear()
            sent = message()
            replying = [
                asyncio.create_task(chat.conversation.reply(sent)) for chat in (here, there)
            ]
            await eventually(lambda: len(agent.running) == 1)
            await asyncio.sleep(0.1)
            agent.go.set()
            one, two = await asyncio.gather(*replying)
            assert one == two
        assert len(agent.seen) == len(await there.history()) == await here.count() == 3


async def test_the_same_id_in_two_conversations_of_two_processes_at_once_is_one_turn(
    chat: StoredChat, agent: SlowAgent
) -> None:
    sent = message()
    moved = sent.model_copy(update={"session_id": uuid4()})
    stores = ChatStores(chat.stores.database, FakeRecorder())
    there = StoredChat(stores, agent, FakeRecorder())
    agent.go.clear()
    replying = [
        asyncio.create_task(chat.conversation.reply(sent)),
        asyncio.create_task(there.conversation.reply(moved)),
    ]
    await eventually(lambda: len(agent.running) == 2)
    agent.go.set()
    one, two = await asyncio.gather(*replying)
    assert one == two
    assert await chat.count() == 1
    (listed,) = await chat.stores.conversations()
    assert (listed.session_id, listed.turn_count) == (one.conversation.session_id, 1)


async def test_a_stopped_message_is_answered_again_in_its_place(
    chat: StoredChat, agent: SlowAgent
) -> None:
    await chat.say("before")
    sent = message("stop me")
    agent.go.clear()
    await chat.stop(sent)
    agent.go.set()
    await chat.say("after")
    (_, stopped, _) = await chat.history()
    assert (stopped.stopped, stopped.answer.text, stopped.message_count) == (True, "wait", 1)
    assert await chat.count() == 3

    reply = await chat.conversation.reply(sent)
    assert reply.seq == stopped.seq
    assert [(turn.prompt, turn.answer.text, turn.stopped) for turn in await chat.history()] == [
        ("before", "answer 1", False),
        ("stop me", "answer 4", False),
        ("after", "answer 3", False),
    ]
    assert agent.seen[-1] == ["before"]
    # The count includes all other messages: two.
    assert reply.message_count == 2
    assert await chat.count() == 3
    assert await chat.conversation.reply(sent) == reply


async def test_a_stopped_message_that_is_stopped_again_counts_once(
    chat: StoredChat, agent: SlowAgent
) -> None:
    sent = message()
    agent.go.clear()
    for _ in range(3):
        await chat.stop(sent)
    assert [turn.stopped for turn in await chat.history()] == [True]
    assert await chat.count() == 1


async def test_a_stopped_message_whose_retry_fails_stays_stopped(place: Place) -> None:
    agent = FakeAgent()
    async with chatting(place, agent) as chat:
        agent.babbles = True
        await chat.stop(sent := message(), after=2)
        agent.babbles = False
        agent.failure = Unavailable("away")
        with pytest.raises(Unavailable, match="away"):
            await chat.conversation.reply(sent)
        (turn,) = await chat.history()
        assert (turn.answer.text, turn.stopped) == ("You said: ", True)
        assert await chat.count() == 1


async def test_a_stopped_message_sent_to_another_conversation_is_answered_where_it_was(
    chat: StoredChat, agent: SlowAgent
) -> None:
    agent.go.clear()
    await chat.stop(sent := message())
    slow = asyncio.create_task(chat.say("slow"))
    await eventually(lambda: len(agent.running) == 1)
    elsewhere = sent.model_copy(update={"session_id": uuid4()})
    replying = asyncio.create_task(chat.conversation.reply(elsewhere))
    await asyncio.sleep(0.1)
    assert len(agent.running) == 1  # the conversation still has one turn at a time
    agent.go.set()
    await slow
    reply = await replying
    assert reply.conversation == sent.conversation
    assert [turn.stopped for turn in await chat.history()] == [False, False]
    assert await chat.history(session_id=elsewhere.session_id) == []
    assert await chat.count() == 2


async def test_a_first_message_that_is_sent_again_finds_its_conversation(
    chat: StoredChat, agent: SlowAgent
) -> None:
    sent = {"user_id": "alice", "text": "hi", "message_id": uuid4()}
    first = await chat.conversation.reply(ChatMessage.model_validate(sent))
    assert await chat.conversation.reply(ChatMessage.model_validate(sent)) == first
    other = await chat.conversation.reply(ChatMessage.model_validate(sent | {"user_id": "bob"}))
    assert other.conversation.user_id == "bob"
    assert len(agent.seen) == 2


async def test_another_users_same_id_is_another_message(chat: StoredChat, agent: SlowAgent) -> None:
    sent = message()
    await chat.conversation.reply(sent)
    reply = await chat.conversation.reply(sent.model_copy(update={"user_id": "bob"}))
    assert reply.conversation == ConversationKey("bob", SESSION)
    assert (agent.seen, reply.message_count) == ([[], []], 0)
    assert [await chat.count("alice"), await chat.count("bob")] == [1, 1]


async def test_a_message_without_an_id_is_a_new_one(chat: StoredChat) -> None:
    for _ in range(2):
        await chat.conversation.reply(ChatMessage(user_id="alice", text="hi", session_id=SESSION))
    assert (len(await chat.history()), await chat.count()) == (2, 2)
