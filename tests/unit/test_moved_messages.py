"""A message that is sent again to another conversation."""

import asyncio
import time
from collections.abc import Sequence
from uuid import UUID, uuid4

import pytest

from chat_service.chat.conversation import Conversation
from chat_service.chat.messages import Answer, ChatMessage, Say, Turn
from chat_service.chat.ports import Agent
from daca_shared.domain import Unavailable
from lab.postgres import Place
from tests.fakes import ChatStores, FakeAgent, FakeChat, FakeRecorder, opened_stores, turn_of

ONE, OTHER = UUID(int=1), UUID(int=2)


def message(message_id: UUID, session_id: UUID) -> ChatMessage:
    return ChatMessage(user_id="alice", text="hi", message_id=message_id, session_id=session_id)


def conversation_of(stores: ChatStores, agent: Agent) -> Conversation:
    return Conversation(
        FakeChat().counts, stores.turns, stores.locks, agent, max_text_length=99, timeout_s=5
    )


class Halting(FakeAgent):
    """Says half of each reply, and the rest only once allowed."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = asyncio.Semaphore(0)
        self.rest = asyncio.Event()

    async def answer(
        self, message: ChatMessage, count: int | None, history: Sequence[Turn], say: Say | None
    ) -> Answer:
        if say:
            say("half")
        self.begun.release()
        await self.rest.wait()
        return Answer("whole")


async def test_a_reply_that_one_reader_stopped_is_completed_for_another(place: Place) -> None:
    async with opened_stores(place) as stores:
        agent, id_ = Halting(), uuid4()
        replica = conversation_of(stores, agent)
        other = conversation_of(ChatStores(stores.database, FakeRecorder()), agent)
        stopped = replica.stream(message(id_, ONE))
        assert await anext(stopped) == "half"
        whole = asyncio.create_task(other.reply(message(id_, OTHER)))
        await agent.begun.acquire()
        await agent.begun.acquire()
        await stopped.aclose()
        await replica.close()
        agent.rest.set()
        turn = await whole
        assert (turn.answer.text, turn.stopped) == ("whole", False)
        assert await stores.turns.find("alice", id_) == turn
        # Only once, where it was kept first.
        assert turn.conversation.session_id == ONE
        assert [(one.session_id, one.turn_count) for one in await stores.conversations()] == [
            (ONE, 1)
        ]


async def test_a_message_sent_to_two_conversations_at_once_is_answered_once(place: Place) -> None:
    async with opened_stores(place) as stores:
        agent, id_ = FakeAgent(), uuid4()
        agent.delay_s = 0.2
        conversation = conversation_of(stores, agent)
        one, other = await asyncio.gather(
            *(conversation.reply(message(id_, session_id)) for session_id in (ONE, OTHER))
        )
        assert one == other
        assert len(agent.messages) == 1


async def test_two_conversations_never_wait_for_each_other(place: Place) -> None:
    async with opened_stores(place) as stores:
        agent, x, y = FakeAgent(), uuid4(), uuid4()
        conversation = conversation_of(stores, agent)
        for sent in (message(x, ONE), message(y, OTHER)):
            async with stores.locks.turn(sent.conversation):
                await stores.turns.keep(turn_of(sent, "half", stopped=True))
        agent.delay_s = 0.5
        running = asyncio.create_task(conversation.reply(message(uuid4(), ONE)))
        await asyncio.sleep(0.1)
        agent.delay_s = 0
        second = asyncio.create_task(conversation.reply(message(y, ONE)))
        await asyncio.sleep(0.1)
        first = asyncio.create_task(conversation.reply(message(x, OTHER)))
        began = time.monotonic()
        await asyncio.gather(running, first, second)
        assert time.monotonic() - began < 4.5  # far less than a chat's time limit


async def test_a_message_whose_conversation_is_deleted_meanwhile_is_answered_where_it_is_sent_to(
    place: Place,
) -> None:
    async with opened_stores(place) as stores:
        id_, key = uuid4(), message(uuid4(), ONE).conversation
        conversation = conversation_of(stores, FakeAgent())
        async with stores.locks.turn(key):
            await stores.turns.keep(turn_of(message(id_, ONE), "half", stopped=True))
            deleting = asyncio.create_task(conversation.delete(key))
            await asyncio.sleep(0.1)
            sending = asyncio.create_task(conversation.reply(message(id_, OTHER)))
            await asyncio.sleep(0.1)
        await deleting
        turn = await sending
        assert turn.conversation.session_id == OTHER
        assert [one.session_id for one in await stores.conversations()] == [OTHER]


async def test_a_stream_is_not_completed_with_another_replicas_reply(place: Place) -> None:
    async with opened_stores(place) as stores:
        id_, agent = uuid4(), Halting()
        replica = conversation_of(stores, agent)
        other = conversation_of(ChatStores(stores.database, FakeRecorder()), FakeAgent())
        stream = replica.stream(message(id_, ONE))
        assert await anext(stream) == "half"
        kept = await other.reply(message(id_, OTHER))
        agent.rest.set()
        with pytest.raises(Unavailable, match="send it again"):
            _ = [event async for event in stream]
        # Sent again, it gets the one reply that is kept.
        assert [event async for event in replica.stream(message(id_, ONE))][-1] == kept
