"""Conversations: the real use case on a real database, with a scripted agent."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from agents import ModelSettings
from agents.testing import ScriptedModel, assistant_message, function_call

from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel
from chat_service.agent.offline import OfflineModel
from chat_service.chat.conversation import Conversation
from chat_service.chat.ports import Agent, ChatMessage, Count
from chat_service.turns.memory import MAX_TURNS, ConversationKey, Items, Memory, Turn
from chat_service.turns.stores import MIGRATIONS, open_stores
from daca_shared.domain import Failed, TimedOut
from daca_shared.storage.sqlite import SqliteDatabase
from lab.postgres import Place
from tests.fakes import FakeAgent, FakeAnalytics, FakeOutbox, eventually, turn_of

SESSION = UUID("7f6f8f5e-0000-4000-8000-000000000001")
OFFLINE = ChatModel("offline", OfflineModel(), ModelSettings())


class Chat:
    """The use case with its own memory."""

    def __init__(self, memory: Memory, agent: Agent) -> None:
        self.memory = memory
        self.outbox = FakeOutbox()
        self.conversation = Conversation(
            FakeAnalytics(), self.outbox, self.memory, agent, max_text_length=100, timeout_s=5
        )

    async def say(
        self, text: str, user_id: str = "alice", session_id: UUID = SESSION, **limits: float
    ) -> str:
        message = ChatMessage(user_id=user_id, text=text, session_id=session_id)
        return (await self.conversation.reply(message, **limits)).text

    async def history(self, user_id: str = "alice", session_id: UUID = SESSION) -> Items:
        return await self.memory.recall(ConversationKey(user_id, session_id))


@asynccontextmanager
async def chatting(place: Place, agent: Agent) -> AsyncIterator[Chat]:
    async with open_stores(place) as stores:
        yield Chat(stores.memory, agent)


class SlowAgent(FakeAgent):
    """Replies once it is told to; notes what it was shown and how many runs overlap."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.running: list[ConversationKey] = []
        self.most_at_once: dict[ConversationKey, int] = {}
        self.seen: list[list[str]] = []

    async def reply(self, message: ChatMessage, count: Count, history: Items) -> Turn:
        key = ConversationKey(message.user_id, message.session_id)
        self.running.append(key)
        self.most_at_once[key] = max(self.most_at_once.get(key, 0), self.running.count(key))
        self.seen.append([item["content"] for item in history])
        await self.go.wait()
        self.running.remove(key)
        return turn_of(message, "ok")


async def test_a_third_turn_refers_back_to_the_first_over_a_restart(place: Place) -> None:
    async with chatting(place, ChatAgent(OFFLINE)) as chat:
        await chat.say("My dog is called Rex")
        await chat.say("Nice weather")
    async with chatting(place, ChatAgent(OFFLINE)) as chat:
        assert "My dog is called Rex" in await chat.say("What did I say first?")


@pytest.mark.parametrize(
    ("user_id", "session_id"), [("mallory", SESSION), ("alice", uuid4())], ids=["user", "session"]
)
async def test_a_guessed_session_id_shows_nothing_of_another(
    place: Place, user_id: str, session_id: UUID
) -> None:
    async with chatting(place, ChatAgent(OFFLINE)) as chat:
        await chat.say("My secret")
        assert await chat.history(user_id, session_id) == []
        reply = await chat.say("What did I say first?", user_id, session_id)
        assert "My secret" not in reply


async def test_a_turn_with_a_tool_call_is_kept_and_shown_as_a_whole(place: Place) -> None:
    model = ScriptedModel(
        [
            [function_call("get_current_time", {}, call_id="c1")],
            [assistant_message("It is noon")],
            [assistant_message("Bye")],
        ]
    )
    async with chatting(place, ChatAgent(ChatModel("m", model, ModelSettings()))) as chat:
        await chat.say("What time is it?")
        await chat.say("Bye")
    assert model.last_call is not None
    kinds = [item.get("type", item.get("role")) for item in model.last_call.input]
    assert kinds == ["user", "function_call", "function_call_output", "message", "user"]


async def test_the_model_is_shown_whole_turns_only_and_not_too_many(place: Place) -> None:
    steps: list[Any] = []
    for n in range(MAX_TURNS + 3):
        steps.append([function_call("get_current_time", {}, call_id=f"c{n}")])
        steps.append([assistant_message(f"reply {n}")])
    model = ScriptedModel(steps)
    async with chatting(place, ChatAgent(ChatModel("m", model, ModelSettings()))) as chat:
        for n in range(MAX_TURNS + 3):
            await chat.say(f"message {n}")
        history = await chat.history()
    assert len(history) == 4 * MAX_TURNS
    assert history[0]["content"] == "message 3"
    calls = {item["call_id"] for item in history if item.get("type") == "function_call"}
    results = {item["call_id"] for item in history if item.get("type") == "function_call_output"}
    assert calls == results


async def test_a_failed_run_leaves_the_history_as_it_was(place: Place) -> None:
    model = ScriptedModel(
        [
            [assistant_message("Hello")],
            # It fails in the middle of the turn, after a tool has run.
            [function_call("get_current_time", {}, call_id="c1")],
            RuntimeError("the model broke"),
            [assistant_message("Back again")],
        ]
    )
    async with chatting(place, ChatAgent(ChatModel("m", model, ModelSettings()))) as chat:
        await chat.say("Hello")
        before = await chat.history()
        with pytest.raises(Failed):
            await chat.say("Fail")
        assert await chat.history() == before
        assert await chat.say("Again") == "Back again"
    assert len(chat.outbox.accepted) == 3


async def test_messages_of_one_conversation_are_answered_one_after_the_other(
    place: Place,
) -> None:
    agent = SlowAgent()
    agent.go.set()
    async with chatting(place, agent) as chat:
        await asyncio.gather(*(chat.say(str(n)) for n in range(5)))
    assert set(agent.most_at_once.values()) == {1}
    assert agent.seen == [[str(m) for m in range(n)] for n in range(5)]


async def test_different_conversations_never_wait_for_each_other(place: Place) -> None:
    agent = SlowAgent()
    async with chatting(place, agent) as chat, asyncio.TaskGroup() as group:
        for user_id in ("alice", "bob"):
            for _ in range(2):
                group.create_task(chat.say("hi", user_id, session_id=uuid4()))
        await eventually(lambda: len(agent.running) == 4)
        agent.go.set()


async def test_a_turn_that_waited_too_long_was_not_accepted_and_holds_no_lock(
    place: Place,
) -> None:
    agent = SlowAgent()
    async with chatting(place, agent) as chat:
        first = asyncio.create_task(chat.say("first"))
        await eventually(lambda: bool(agent.running))
        with pytest.raises(TimedOut):
            await chat.say("second", timeout_s=0.05)
        agent.go.set()
        assert await first == "ok"
        assert [message.text for message in chat.outbox.accepted] == ["first"]
        assert await chat.say("third") == "ok"
        assert chat.memory._locks == {}


async def test_an_older_database_gets_the_table_it_lacks(tmp_path: Path) -> None:
    old = await SqliteDatabase.open(tmp_path / "chat.db", MIGRATIONS[:1])
    await old.close()
    async with chatting(tmp_path / "chat.db", ChatAgent(OFFLINE)) as chat:
        await chat.say("Hello")
        assert len(await chat.history()) == 2
