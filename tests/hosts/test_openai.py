"""OpenAI's own API: its answers become texts or errors, which say what its host has said."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from agents import ModelSettings

from chat_service.agent.agent import ChatAgent, OurAgent
from chat_service.agent.models import ChatModel
from chat_service.chat.messages import ChatMessage
from daca_shared.domain import (
    DomainError,
    Failed,
    InvalidInput,
    LimitReached,
    Misconfigured,
    Unavailable,
)
from lab.postgres import Place
from tests.chats import chatting
from tests.hosts.conftest import Talk, openai
from tests.odd_host import (
    NOON,
    THOUGHT,
    Reply,
    as_asked,
    error,
    events,
    kept,
    odd_host,
    response,
    spoken,
    whole,
)

EXCEEDED = "You exceeded your current quota, please check your plan and billing details."


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
    async with (
        odd_host(as_asked(answer)) as host,
        openai(host.url) as model,
        chatting(place, ChatAgent(model)) as chat,
    ):
        talk = Talk(chat, host, way)
        if text is None:
            with pytest.raises(DomainError):
                await talk.say()
        else:
            assert await talk.say() == text
        assert [turn.answer.text for turn in await talk.turns()] == ([text] if text else [])


@pytest.mark.parametrize("status", ["incomplete", "failed", "cancelled", "queued", "in_progress"])
async def test_a_response_that_is_not_complete_is_no_reply(way: str, status: str) -> None:
    answer = (whole if way == "reply" else kept)(NOON, status=status)
    async with odd_host(answer) as host, openai(host.url) as model:
        with pytest.raises(Unavailable, match="cut short"):
            await ask(model, way)


def failed(code: str, words: str = "No") -> Reply:
    ended = response(status="failed") | {"error": {"code": code, "message": words}}
    return events({"type": "response.failed", "response": ended, "sequence_number": 0})


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("rate_limit_exceeded", LimitReached),
        ("insufficient_quota", Misconfigured),
        ("invalid_prompt", InvalidInput),
        ("server_error", Unavailable),
        ("bio_policy", InvalidInput),
        ("misalignment_policy_violation", InvalidInput),
    ],
)
async def test_openais_failure_in_a_stream_says_why(code: str, kind: type[DomainError]) -> None:
    async with odd_host(failed(code)) as host, openai(host.url) as model:
        with pytest.raises(kind):
            await ask(model, "stream")


async def test_a_quota_that_is_exceeded_is_no_conversation_that_is_too_long(place: Place) -> None:
    answers = (kept(NOON), failed("insufficient_quota", EXCEEDED))
    async with (
        odd_host(*answers) as host,
        openai(host.url) as model,
        chatting(place, ChatAgent(model)) as chat,
    ):
        talk = Talk(chat, host, "stream")
        await talk.say()
        with pytest.raises(Misconfigured, match="no credit left"):
            await talk.say()
        assert len(host.requests) == 2


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (429, "insufficient_quota", Misconfigured("no credit left")),
        (429, "billing_not_active", Misconfigured("no credit left")),
        (400, "billing_hard_limit_reached", Misconfigured("no credit left")),
        (403, "model_not_found", Misconfigured("not have this service's model")),
        (400, "cyber_policy_violation", InvalidInput.field("text", "filter of the model's host")),
        (429, "rate_limit_exceeded", LimitReached("rate limit")),
    ],
    ids=str,
)
async def test_the_code_of_a_refusal_says_why(
    status: int, code: str, expected: DomainError, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    told = {"message": "We can't do it.", "type": "t", "param": None, "code": code}
    async with odd_host(error({"error": told}, status)) as host, openai(host.url) as model:
        with pytest.raises(type(expected), match=expected.message.removeprefix("text: ")):
            await ask(model, way)
    assert f"{code} " in caplog.text


@pytest.mark.parametrize(
    ("code", "kind"),
    [("rate_limit_exceeded", LimitReached), ("insufficient_quota", Misconfigured)],
)
async def test_an_error_event_says_why(code: str, kind: type[DomainError]) -> None:
    event = {"type": "error", "error": {"type": "t", "code": code, "message": "No"}}
    async with odd_host(events(event)) as host, openai(host.url) as model:
        with pytest.raises(kind):
            await ask(model, "stream")


@pytest.mark.parametrize("nonsense", ["<html>", "null", "[]", '{"output": null}', '{"error": 1}'])
async def test_an_invalid_response_is_an_answer_that_makes_no_sense(nonsense: str) -> None:
    page = Reply(nonsense.encode(), "text/html" if nonsense == "<html>" else "application/json")
    async with odd_host(page) as host, openai(host.url) as model:
        with pytest.raises(Unavailable, match="makes no sense"):
            await ask(model, "reply")


async def test_a_setting_that_the_client_does_not_know_is_no_fault_of_the_host(way: str) -> None:
    def extend(agent: OurAgent) -> OurAgent:
        return agent.clone(model_settings=ModelSettings(extra_args={"no_such": 1}))

    async with odd_host(kept(NOON)) as host, openai(host.url) as model:
        with pytest.raises(Failed):
            await ask(model, way, extend)


async def test_a_complete_stream_whose_connection_hangs_or_breaks_is_a_reply() -> None:
    async with odd_host(replace(kept(NOON), hangs=True)) as host, openai(host.url, 0.3) as model:
        assert await ask(model, "stream") == "It is noon"
        assert len(host.requests) == 1


async def test_an_item_of_an_unknown_kind_is_passed_over(way: str) -> None:
    answer = as_asked({"type": "hologram", "id": "h_1"}, NOON)
    async with odd_host(answer) as host, openai(host.url) as model:
        assert await ask(model, way) == "It is noon"


async def ask(
    model: ChatModel, way: str, extend: Callable[[OurAgent], OurAgent] | None = None
) -> str:
    sent = ChatMessage(user_id="alice", text="hi")
    say = (lambda piece: None) if way == "stream" else None
    return (await ChatAgent(model, extend=extend).answer(sent, 5, [], say)).text
