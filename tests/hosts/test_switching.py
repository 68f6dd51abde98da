"""A conversation continues after a switch to any other model: OpenAI's Responses API, a compatible
server, Gemini, the offline model, and back."""

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest

from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel, choose_model
from chat_service.chat.messages import Answer, ChatMessage, ToolCall
from chat_service.settings import ChatSettings
from lab.postgres import Place
from tests.chats import chatting
from tests.fakes import turn_of
from tests.hosts.conftest import Talk, closing, openai
from tests.odd_host import (
    NOON,
    THOUGHT,
    OddHost,
    Reply,
    as_asked,
    calling,
    either,
    error,
    odd_host,
)

CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_current_time"}
CALL |= {"arguments": "{}", "status": "completed"}


def refuse_foreign(request: dict[str, Any]) -> Reply:
    """As OpenAI does: it accepts only ids that it made in this run."""
    ids = [item["id"] for item in request["input"] if "id" in item]
    if foreign := [known for known in ids if known not in ("fc_1", "rs_1")]:
        return error({"error": {"message": f"Item {foreign} not found"}})
    last = request["input"][-1]
    asks = "time" in str(last.get("content", ""))
    return as_asked(*([THOUGHT, CALL] if asks else [NOON]))(request)


SIGNED = {"google": {"thought_signature": "signed"}}


def refuse_unsigned(request: dict[str, Any]) -> Reply:
    """As Gemini does: no text may be empty, and its calls since the last user message must have
    their signatures (https://ai.google.dev/gemini-api/docs/thought-signatures)."""
    messages = request["messages"]
    if any(not m["content"] for m in messages if not m.get("tool_calls")):
        return error([{"error": {"code": 400, "message": "contents.parts must not be empty."}}])
    asked = max(n for n, m in enumerate(messages) if m["role"] == "user")
    calls = [call for m in messages[asked:] for call in m.get("tool_calls", [])]
    if any(call.get("extra_content") != SIGNED for call in calls):
        told = "Function call is missing a thought_signature in functionCall parts."
        return error([{"error": {"code": 400, "message": told, "status": "INVALID_ARGUMENT"}}])
    answer = either(content="It is noon") if calls else calling(id="", extra_content=SIGNED)
    return answer if isinstance(answer, Reply) else answer(request)


@asynccontextmanager
async def at(host: OddHost, name: str, environment: pytest.MonkeyPatch) -> AsyncIterator[ChatModel]:
    """A model of a compatible host."""
    environment.setenv("OPENAI_BASE_URL", host.url)
    environment.setenv("CHAT_MODEL", name)
    async with closing(choose_model(ChatSettings.from_environment())) as model:
        yield model


async def test_a_conversation_continues_with_another_host(
    environment: pytest.MonkeyPatch, place: Place, way: str
) -> None:
    session_id = uuid4()
    async with (
        odd_host(refuse_foreign) as responses,
        odd_host(either(content="unused")) as compatible,
        odd_host(refuse_unsigned) as google,
        openai(responses.url) as openai_model,
        closing(choose_model(ChatSettings.from_environment())) as offline,
        at(compatible, "m", environment) as other,
        at(google, "gemini-2.5-flash", environment) as gemini,
    ):
        there = (offline, openai_model, other, gemini)
        for model in (*there, *reversed(there), gemini, other):
            compatible.answers = [calling(id="foreign-id"), either(content="It is noon")]
            async with chatting(place, ChatAgent(model)) as chat:
                talk = Talk(chat, compatible, way, session_id)
                assert re.search(r"It is (noon|20\d\d-)", await talk.say("what time is it?"))
                turn = (await talk.turns())[-1]
                assert [call.tool for call in turn.answer.tool_calls] == ["get_current_time"]
        shown = compatible.requests[-1]["messages"]
        asked = [call["id"] for m in shown for call in m.get("tool_calls", [])]
        assert asked == [m["tool_call_id"] for m in shown if m["role"] == "tool"]
        assert len({*asked}) == len(asked) == 10
        # Whoever made the calls, the ids are ours, except for this run's.
        assert all(re.fullmatch(r"call\d{5}", call_id) for call_id in asked[:-1])
        turns = [m["role"] for m in shown if m["role"] in ("user", "assistant") and m["content"]]
        assert turns == ["user", "assistant"] * 9 + ["user"]
        assert "reasoning" not in str(shown)


async def test_tool_calls_of_earlier_versions_work_too(environment: pytest.MonkeyPatch) -> None:
    calls = [ToolCall("look_up", "not JSON", ""), ToolCall("look_up", "[1]", "one")]
    message = ChatMessage(user_id="alice", text="hi")
    old = replace(turn_of(message, ""), answer=Answer("", calls))
    async with odd_host(either(content="fine")) as host, at(host, "m", environment) as model:
        await ChatAgent(model).answer(message, 5, [old])
    _, _, one, first, two, second, last, _ = host.requests[0]["messages"]
    made = [m["tool_calls"][0]["function"]["arguments"] for m in (one, two)]
    assert made == ["{}", "{}"]
    assert [m["content"] for m in (first, second, last)] == ["(nothing)", "one", "(nothing)"]
