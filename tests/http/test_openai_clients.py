"""The official OpenAI client, and requests that similar clients send."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest

from chat_service.web.openai.api import CompletionBody
from daca_shared.domain import LimitReached, Unavailable
from tests.fakes import FOREVER_S, FakeChat, eventually
from tests.http.gateways import gateway_app, served
from tests.tokens import secret_identity, token

HI: Any = [{"role": "user", "content": "hi"}]
PART = {"type": "text", "text": "hi"}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


@pytest.fixture
async def http(chat: FakeChat) -> AsyncIterator[httpx2.AsyncClient]:
    async with served(gateway_app(chat)) as client:
        yield client


def client_of(http: httpx2.AsyncClient, key: str = "any") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{http.base_url}/v1", api_key=key, max_retries=0)


@pytest.fixture
async def client(http: httpx2.AsyncClient) -> AsyncIterator[openai.AsyncOpenAI]:
    async with client_of(http) as client:
        yield client


async def test_a_whole_reply_has_openais_form(client: openai.AsyncOpenAI, chat: FakeChat) -> None:
    answer = await client.chat.completions.create(
        model="gpt-x", messages=HI, user="alice", temperature=0.3, max_tokens=5
    )
    (choice,) = answer.choices
    assert (choice.message.role, choice.message.content) == ("assistant", "You said: hi")
    assert (choice.finish_reason, answer.object, answer.model) == (
        "stop",
        "chat.completion",
        "fake",
    )
    assert chat.agent.counts == [5]
    (turn,) = chat.turns.kept
    assert (turn.conversation.user_id, turn.prompt) == ("alice", "hi")
    assert answer.id == f"chatcmpl-{turn.message_id.hex}"
    assert answer.usage
    assert answer.usage.total_tokens == 0


async def test_a_stop_of_the_service_keeps_nothing_of_a_whole_reply(
    client: openai.AsyncOpenAI, chat: FakeChat
) -> None:
    """Nobody has seen any of the reply, and the client will send the message again."""
    chat.agent.delay_s = FOREVER_S
    asked = client.chat.completions.create(model="fake", messages=HI)
    asking = asyncio.ensure_future(asked)
    await eventually(lambda: chat.agent.messages)
    await chat.conversation.close()
    assert not asking.done()
    asking.cancel()
    await asyncio.wait([asking])
    assert chat.turns.kept == []


@pytest.mark.parametrize("options", [{}, {"stream_options": {"include_usage": True}}])
async def test_a_streamed_reply_has_openais_form(
    client: openai.AsyncOpenAI, chat: FakeChat, options: dict[str, Any]
) -> None:
    stream = await client.chat.completions.create(
        model="fake", messages=HI, user="alice", stream=True, **options
    )
    chunks = [chunk async for chunk in stream]
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "You said: hi"
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [chunk.choices[0].finish_reason for chunk in chunks][-2:] == [None, "stop"]
    assert {chunk.id for chunk in chunks} == {f"chatcmpl-{chat.turns.kept[0].message_id.hex}"}
    assert not chat.turns.kept[0].stopped


async def test_the_clients_own_messages_are_the_history(
    client: openai.AsyncOpenAI, chat: FakeChat
) -> None:
    messages: Any = [
        {"role": "system", "content": "Be brief."},
        {
            "role": "developer",
            "content": [{"type": "text", "text": "And"}, {"type": "text", "text": "kind."}],
        },
        {"role": "user", "content": "What time is it?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c", "type": "function", "function": {"name": "clock", "arguments": "{}"}}
            ],
        },
        {"role": "tool", "tool_call_id": "c", "content": "noon"},
        {"role": "assistant", "content": "Noon."},
        {"role": "user", "content": [{"type": "text", "text": "Thanks"}]},
    ]
    for _ in range(2):
        answer = await client.chat.completions.create(model="m", messages=messages, user="alice")
        assert answer.choices[0].message.content == "You said: Thanks"
    said = (
        ("system", "Be brief."),
        ("system", "And\nkind."),
        ("user", "What time is it?"),
        ("user", "The result of a tool: noon"),
        ("assistant", "Noon."),
    )
    assert [message.history for message in chat.agent.messages] == [said, said]
    assert chat.agent.histories == [[], []]
    first, second = chat.turns.kept
    assert first.conversation.session_id != second.conversation.session_id


async def test_the_one_model_is_listed(client: openai.AsyncOpenAI) -> None:
    assert [model.id async for model in client.models.list()] == ["fake"]


async def test_a_token_identifies_the_user(chat: FakeChat) -> None:
    async with served(gateway_app(chat, identity=secret_identity())) as http:
        async with client_of(http, token("bob")) as client:
            await client.chat.completions.create(model="m", messages=HI, user="alice")
        assert [turn.conversation.user_id for turn in chat.turns.kept] == ["bob"]
        async with client_of(http, "sk-wrong") as client:
            with pytest.raises(openai.AuthenticationError) as refused:
                await client.chat.completions.create(model="m", messages=HI)
            with pytest.raises(openai.AuthenticationError):
                await client.models.list()
        assert refused.value.code == "BAD_TOKEN"


async def test_without_a_user_one_is_anonymous(client: openai.AsyncOpenAI, chat: FakeChat) -> None:
    await client.chat.completions.create(model="m", messages=HI)
    assert chat.turns.kept[0].conversation.user_id == "anonymous"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "messages"),
        ({"messages": [{"role": "user", "content": " "}]}, "cannot be empty"),
        ({"messages": [{"role": "user", "content": "x" * 101}]}, "100 characters"),
        ({"messages": [{"role": "owl", "content": "hi"}]}, "role"),
        ({"messages": [{"role": "user", "content": [PART, PICTURE]}]}, "image_url"),
        ({"messages": HI, "user": "a/b"}, "user"),
        ({"messages": HI, "stream": "yes"}, "stream"),
    ],
)
async def test_bad_input_is_an_error_in_openais_form(
    client: openai.AsyncOpenAI, chat: FakeChat, fields: dict[str, Any], told: str
) -> None:
    with pytest.raises((openai.BadRequestError, openai.UnprocessableEntityError)) as refused:
        await client.chat.completions.create(model="m", **fields)
    assert told in refused.value.message
    assert (refused.value.code, refused.value.type) == ("INVALID_FIELD", "invalid_request_error")
    assert chat.turns.kept == []


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param([1] * 3000, id="no messages"),
        pytest.param([{"role": "user", "content": [{}] * 3000}], id="no parts"),
        pytest.param(HI * 2001, id="too many messages"),
        pytest.param([{"role": "user", "content": [PART] * 101}], id="too many parts"),
    ],
)
async def test_a_long_list_is_validated_only_up_to_its_first_error(
    http: httpx2.AsyncClient, messages: list[Any]
) -> None:
    answer = await http.post("/v1/chat/completions", json={"messages": messages})
    assert answer.status_code == 422
    # One that the content isn't text, others on what its first part lacks.
    assert len(answer.json()["detail"]) <= 3


def test_no_object_is_made_of_a_part_as_a_body_may_have_80_000_of_them() -> None:
    part = {"type": "text", "text": "hi"}
    body = CompletionBody.model_validate({"messages": [{"role": "user", "content": [part]}]})
    assert body.messages[0].content == [part]


async def test_a_failing_model_is_an_error_in_openais_form(
    client: openai.AsyncOpenAI, chat: FakeChat
) -> None:
    chat.agent.failure = Unavailable("The model can't be reached", code="MODEL_UNAVAILABLE")
    with pytest.raises(openai.InternalServerError) as refused:
        await client.chat.completions.create(model="m", messages=HI)
    assert (refused.value.status_code, refused.value.code) == (503, "MODEL_UNAVAILABLE")
    stream = await client.chat.completions.create(model="m", messages=HI, stream=True)
    with pytest.raises(openai.APIError, match="can't be reached") as broken:
        _ = [chunk async for chunk in stream]
    assert broken.value.code == "MODEL_UNAVAILABLE"
    assert chat.turns.kept == []


async def test_a_model_that_fails_before_a_stream_has_begun_fails_with_a_status(
    client: openai.AsyncOpenAI, chat: FakeChat
) -> None:
    """Clients decide by the status and by Retry-After whether to try again."""
    chat.agent.is_silent = True
    chat.agent.failure = LimitReached("Try again later", retry_after_s=3)
    with pytest.raises(openai.RateLimitError) as refused:
        await client.chat.completions.create(model="m", messages=HI, stream=True)
    assert refused.value.response.headers["retry-after"] == "3"
    assert chat.turns.kept == []


async def test_a_conversation_goes_on_after_pictures(
    client: openai.AsyncOpenAI, chat: FakeChat
) -> None:
    """Front ends send earlier pictures again with each later message."""
    refusal = {"type": "refusal", "refusal": "No."}
    earlier: Any = (
        {"role": "user", "content": [PART, PICTURE]},
        {"role": "assistant", "content": [refusal]},
    )
    await client.chat.completions.create(model="m", messages=[*earlier, *HI])
    assert chat.agent.messages[0].history == (
        ("user", "hi\n[image_url, not shown]"),
        ("assistant", "No."),
    )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_client_that_retries_before_a_reply_has_begun_has_nothing_counted(
    http: httpx2.AsyncClient, chat: FakeChat, stream: bool
) -> None:
    """By default this client retries, without a key: each try is a message of its own."""
    chat.agent.is_silent = True
    chat.agent.delay_s = FOREVER_S
    impatient = client_of(http).with_options(timeout=0.2, max_retries=1)
    with pytest.raises(openai.APITimeoutError):
        await impatient.chat.completions.create(model="m", messages=HI, stream=stream)
    assert len(chat.agent.messages) == 2
    await eventually(lambda: not chat.admission.chats)
    await eventually(lambda: not chat.conversation.streams)
    assert chat.turns.kept == []


async def test_a_reader_who_leaves_stops_the_model(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    chat.agent.delay_s = FOREVER_S
    body = {"messages": HI, "user": "alice", "stream": True}
    async with http.stream("POST", "/v1/chat/completions", json=body) as response:
        assert "You " in await anext(response.aiter_text())
    await eventually(lambda: chat.turns.kept)
    assert chat.turns.kept[0].stopped
    await eventually(lambda: not chat.conversation.streams)


async def test_a_retry_with_the_same_key_counts_once(
    http: httpx2.AsyncClient, chat: FakeChat
) -> None:
    headers = {"idempotency-key": "one"}
    answers = [
        (await http.post("/v1/chat/completions", json={"messages": HI}, headers=headers)).json()
        for _ in range(2)
    ]
    assert answers[0]["id"] == answers[1]["id"]
    assert len(chat.turns.kept) == 1
