"""Conversations: the real use case with a real database and a scripted agent."""

import asyncio
from typing import Any
from uuid import UUID, uuid4

import pytest
from agents import ModelSettings
from agents.testing import ScriptedModel, assistant_message, function_call

from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel
from chat_service.agent.offline import OfflineModel
from chat_service.chat.messages import ChatMessage
from chat_service.turns.store import MAX_TURNS
from daca_shared.domain import Failed, TimedOut, Unavailable
from lab.postgres import Place
from tests.chats import SESSION, SlowAgent, chatting
from tests.fakes import FakeAgent, eventually

OFFLINE = ChatModel("offline", OfflineModel(), ModelSettings())


def scripted(*steps: Any) -> tuple[ScriptedModel, ChatAgent]:
    model = ScriptedModel([*steps])
    return model, ChatAgent(ChatModel("m", model, ModelSettings()))


async def test_a_third_turn_refers_back_to_the_first_over_a_restart(place: Place) -> None:
    async with chatting(place, ChatAgent(OFFLINE)) as chat:
        await chat.say("My dog is called Rex")
        await chat.say("Nice weather")
    async with chatting(place, ChatAgent(OFFLINE)) as chat:
        assert "My dog is called Rex" in await chat.say("What did I say first?")


@pytest.mark.parametrize(
    ("user_id", "session_id"), [("mallory", SESSION), ("alice", uuid4())], ids=["user", "session"]
)
async def test_a_guessed_session_id_shows_no_other_users_turns(
    place: Place, user_id: str, session_id: UUID
) -> None:
    async with chatting(place, ChatAgent(OFFLINE)) as chat:
        await chat.say("My secret")
        assert await chat.history(user_id, session_id) == []
        reply = await chat.say("What did I say first?", user_id, session_id)
        assert "My secret" not in reply


async def test_a_turn_with_a_tool_call_is_kept_and_shown_as_a_whole(place: Place) -> None:
    model, agent = scripted(
        [function_call("get_current_time", {}, call_id="c1")],
        [assistant_message("It is noon")],
        [assistant_message("Bye")],
    )
    async with chatting(place, agent) as chat:
        await chat.say("What time is it?")
        await chat.say("Bye")
        (call,) = (await chat.history())[0].answer.tool_calls
    assert (call.tool, call.arguments) == ("get_current_time", "{}")
    assert model.last_call is not None
    shown: list[Any] = model.last_call.input
    kinds = [item.get("type", item.get("role")) for item in shown]
    assert kinds == ["user", "function_call", "function_call_output", "assistant", "user"]
    assert shown[2]["output"] == call.output


async def test_the_model_is_shown_whole_turns_only_and_not_too_many(place: Place) -> None:
    steps: list[Any] = []
    for n in range(MAX_TURNS + 3):
        # Some hosts restart the numbering of calls in each run.
        steps.append([function_call("get_current_time", {}, call_id="call_0")])
        steps.append([assistant_message(f"reply {n}")])
    model, agent = scripted(*steps, [assistant_message("the last reply")])
    async with chatting(place, agent) as chat:
        for n in range(MAX_TURNS + 4):
            await chat.say(f"message {n}")
    assert model.last_call is not None
    shown: list[Any] = model.last_call.input
    assert len(shown) == 4 * MAX_TURNS + 1
    assert shown[0]["content"] == "message 3"
    calls = [item["call_id"] for item in shown if item.get("type") == "function_call"]
    results = [item["call_id"] for item in shown if item.get("type") == "function_call_output"]
    assert calls == results
    assert len({*calls}) == MAX_TURNS


async def test_a_failed_run_leaves_the_history_as_it_was_and_counts_nothing(place: Place) -> None:
    _, agent = scripted(
        [assistant_message("Hello")],
        # It fails in the middle of the turn, after a tool call.
        [function_call("get_current_time", {}, call_id="c1")],
        RuntimeError("the model broke"),
        [assistant_message("Back again")],
    )
    async with chatting(place, agent) as chat:
        await chat.say("Hello")
        before = await chat.history()
        with pytest.raises(Failed):
            await chat.say("Fail")
        assert await chat.history() == before
        assert await chat.count() == 1
        assert await chat.say("Again") == "Back again"
        assert await chat.count() == 2


async def test_a_failed_message_that_is_sent_again_is_answered_and_counts_once(
    place: Place,
) -> None:
    agent = FakeAgent()
    agent.failure = Unavailable("away")
    async with chatting(place, agent) as chat:
        sent = ChatMessage(user_id="alice", text="hi", message_id=uuid4())
        with pytest.raises(Unavailable):
            await chat.conversation.reply(sent)
        assert await chat.count() == 0
        agent.failure = None
        reply = await chat.conversation.reply(sent)
        assert (reply.message_count, await chat.count()) == (0, 1)


async def test_each_turn_keeps_the_count_before_it_and_the_model(place: Place) -> None:
    async with chatting(place, ChatAgent(OFFLINE)) as chat:
        for n in range(3):
            await chat.say(str(n), session_id=uuid4() if n == 1 else SESSION)
        history = await chat.history()
    assert [(turn.message_count, turn.model) for turn in history] == [
        (0, "offline"),
        (2, "offline"),
    ]


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


async def test_a_turn_that_waited_too_long_was_not_kept_and_holds_no_lock(place: Place) -> None:
    agent = SlowAgent()
    async with chatting(place, agent) as chat:
        first = asyncio.create_task(chat.say("first"))
        await eventually(lambda: bool(agent.running))
        with pytest.raises(TimedOut):
            await chat.say("second", timeout_s=0.05)
        agent.go.set()
        assert await first == "answer 1"
        assert [turn.prompt for turn in await chat.history()] == ["first"]
        assert await chat.count() == 1
        assert await chat.say("third", timeout_s=10) == "answer 2"


@pytest.mark.parametrize("steps", range(6))
async def test_a_reply_that_is_stopped_just_before_the_service_stops_is_kept(
    place: Place, steps: int
) -> None:
    async with chatting(place, SlowAgent()) as chat:
        events = chat.conversation.stream(
            ChatMessage(user_id="alice", text="hi", session_id=SESSION)
        )
        assert await anext(events) == "wait"
        await events.aclose()
        for _ in range(steps):
            await asyncio.sleep(0)
        await chat.conversation.close()
        assert [turn.stopped for turn in await chat.history()] == [True]
        assert await chat.count() == 1
