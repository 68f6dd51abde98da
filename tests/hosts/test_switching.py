"""A conversation continues after a switch to any other model: OpenAI's Responses API, a compatible
server, Gemini, the offline model, and back."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from uuid import uuid4

import pytest
from agents import ModelSettings, OpenAIResponsesModel
from openai import AsyncOpenAI

from chat_service.agent.agent import ChatAgent
from chat_service.agent.models import ChatModel, choose_model
from chat_service.chat.messages import Answer, ChatMessage, ToolCall
from chat_service.settings import ChatSettings
from daca_shared.domain import (
    DomainError,
    InvalidInput,
    LimitReached,
    Misconfigured,
    Unavailable,
)
from lab.postgres import Place
from tests.chats import chatting
from tests.fakes import turn_of
from tests.hosts.conftest import KEY, Talk, closing
from tests.odd_host import (
    EVENTS,
    OddHost,
    Reply,
    calling,
    either,
    error,
    odd_host,
    response,
    spoken,
)

CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "get_current_time"}
CALL |= {"arguments": "{}", "status": "completed"}
THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": []}
NOON = spoken({"type": "output_text", "text": "It is noon", "annotations": []})


def whole(*output: dict[str, Any], status: str = "completed") -> Reply:
    return Reply(json.dumps(response(*output, status=status)).encode())


def kept(*output: dict[str, Any]) -> Reply:
    """The same as a stream without deltas."""
    event = {"type": "response.completed", "response": response(*output), "sequence_number": 1}
    done = [
        {"type": "response.output_item.done", "item": i, "output_index": 0, "sequence_number": 0}
        for i in output
    ]
    body = "".join(f"event: {e['type']}\ndata: {json.dumps(e)}\n\n" for e in [*done, event])
    return Reply(body.encode(), "text/event-stream")


def refuse_foreign(request: dict[str, Any]) -> Reply:
    """As OpenAI does: it accepts only ids that it made in this run."""
    ids = [item["id"] for item in request["input"] if "id" in item]
    if foreign := [known for known in ids if known not in ("fc_1", "rs_1")]:
        return error({"error": {"message": f"Item {foreign} not found"}})
    last = request["input"][-1]
    asks = "time" in str(last.get("content", ""))
    return (kept if request.get("stream") else whole)(*([THOUGHT, CALL] if asks else [NOON]))


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


@asynccontextmanager
async def openai(host: OddHost) -> AsyncIterator[ChatModel]:
    client = AsyncOpenAI(api_key=KEY, base_url=host.url, max_retries=0)
    model = ChatModel("m", OpenAIResponsesModel("m", client), ModelSettings(), client)
    async with closing(model):
        yield model


async def test_a_conversation_continues_with_another_host(
    environment: pytest.MonkeyPatch, place: Place, way: str
) -> None:
    session_id = uuid4()
    async with (
        odd_host(refuse_foreign) as responses,
        odd_host(either(content="unused")) as compatible,
        odd_host(refuse_unsigned) as google,
        openai(responses) as openai_model,
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


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (spoken({"type": "refusal", "refusal": "I won't"}), "I won't"),
        (spoken({"type": "output_text", "text": "a\ud83d", "annotations": []}), "a\ufffd"),
        (spoken({"type": "output_text", "text": " \n", "annotations": []}), None),
        (THOUGHT, None),
    ],
    ids=["refusal", "half a character", "blank", "no message"],
)
async def test_openais_own_answers_are_texts_or_errors(
    place: Place, way: str, answer: dict[str, Any], text: str | None
) -> None:
    def respond(request: dict[str, Any]) -> Reply:
        return (kept if request.get("stream") else whole)(answer)

    async with (
        odd_host(respond) as host,
        openai(host) as model,
        chatting(place, ChatAgent(model)) as chat,
    ):
        talk = Talk(chat, host, way)
        if text is None:
            with pytest.raises(DomainError):
                await talk.say()
        else:
            assert await talk.say() == text
        assert [turn.answer.text for turn in await talk.turns()] == ([text] if text else [])


async def test_a_response_that_is_not_complete_is_no_reply() -> None:
    async with odd_host(whole(NOON, status="incomplete")) as host, openai(host) as model:
        sent = ChatMessage(user_id="alice", text="hi")
        with pytest.raises(DomainError):
            await ChatAgent(model).answer(sent, 5, [])


def failed(code: str) -> Reply:
    ended = response(status="failed") | {"error": {"code": code, "message": "No"}}
    event = {"type": "response.failed", "response": ended, "sequence_number": 0}
    return Reply(f"event: response.failed\ndata: {json.dumps(event)}\n\n".encode(), EVENTS)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("rate_limit_exceeded", LimitReached),
        ("insufficient_quota", Misconfigured),
        ("invalid_prompt", InvalidInput),
        ("server_error", Unavailable),
    ],
)
async def test_openais_failure_in_a_stream_says_why(code: str, kind: type[DomainError]) -> None:
    async with odd_host(failed(code)) as host, openai(host) as model:
        sent = ChatMessage(user_id="alice", text="hi")
        with pytest.raises(kind):
            await ChatAgent(model).answer(sent, 5, [], lambda piece: None)
