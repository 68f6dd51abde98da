"""The agent loop through the SDK and a real HTTP connection, with both of OpenAI's APIs."""

import json
import logging
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from uuid import uuid4

import agents
import pytest

from chat_service.agent.agent import ChatAgent, RunContext, instructions
from chat_service.agent.items import items_of
from chat_service.agent.models import ChatModel, choose_model
from chat_service.chat.messages import Answer, ChatMessage, ConversationKey, Say, ToolCall, Turn
from chat_service.settings import ChatSettings
from daca_shared.domain import (
    DomainError,
    Failed,
    LimitReached,
    Misconfigured,
    TimedOut,
    Unavailable,
)
from tests.hosts.conftest import KEY, closing, openai
from tests.model_server import Fault, ModelServer, model_server

APIS = ("responses", "chat/completions")
type Choose = Callable[..., ChatModel]


@pytest.fixture
async def server() -> AsyncIterator[ModelServer]:
    async with model_server() as server:
        yield server


# Longer than this machine may stall.
TIMEOUT_S = 2


@pytest.fixture
def choose(environment: pytest.MonkeyPatch) -> Choose:
    def choose(**variables: str) -> ChatModel:
        for name, value in variables.items():
            environment.setenv(name, value)
        return choose_model(ChatSettings.from_environment())

    return choose


@pytest.fixture(params=APIS)
async def model(
    request: pytest.FixtureRequest, server: ModelServer, choose: Choose
) -> AsyncIterator[ChatModel]:
    if request.param == "responses":
        made = openai(server.url, TIMEOUT_S)
    else:
        chosen = choose(
            OPENAI_BASE_URL=server.url,
            OPENAI_API_KEY=KEY,
            CHAT_MODEL="m",
            CHAT_MODEL_TIMEOUT_S=str(TIMEOUT_S),
        )
        made = closing(chosen)
    async with made as model:
        yield model


async def ask(model: ChatModel, text: str = "hello", *said: Turn, say: Say | None = None) -> str:
    message = ChatMessage(user_id="alice", text=text)
    return (await ChatAgent(model).answer(message, 5, said, say)).text


def turn(prompt: str, answer: Answer, *, stopped: bool = False, seq: int = 0) -> Turn:
    key = ConversationKey("alice", uuid4())
    return Turn(key, uuid4(), prompt, answer, stopped, None, "", datetime.now(UTC), seq)


async def test_the_model_is_told_the_user_and_the_count(
    model: ChatModel, server: ModelServer
) -> None:
    reply = await ask(model)
    assert 'The user\'s id is "alice"' in reply
    assert "sent 5 messages before this one" in reply
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert request.body["model"] == "m"


async def test_each_host_is_called_with_its_api(model: ChatModel, server: ModelServer) -> None:
    await ask(model)
    responses = isinstance(model.model, agents.OpenAIResponsesModel)
    assert server.requests[0].path == ("/v1/responses" if responses else "/v1/chat/completions")


async def test_the_model_gets_a_tools_result(model: ChatModel, server: ModelServer) -> None:
    reply = await ask(model, "what time is it?")
    (result,) = server.tool_results
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", result)
    assert reply == f"The tool says {result}"
    assert len(server.requests) == 2


async def test_an_answer_names_the_called_tools(model: ChatModel, server: ModelServer) -> None:
    message = ChatMessage(user_id="alice", text="what time is it?")
    answer = await ChatAgent(model).answer(message, 5, [])
    (result,) = server.tool_results
    assert answer.tool_calls == (ToolCall("get_current_time", "{}", result),)


async def test_the_model_is_shown_what_was_said_before(
    model: ChatModel, server: ModelServer
) -> None:
    called = [ToolCall("get_current_time", "{}", "noon"), ToolCall("look_up", '{"a": 1}', "b")]
    await ask(
        model,
        "hello",
        turn("the time?", Answer("It is noon", called), seq=7),
        turn("a story", Answer(" Once"), stopped=True, seq=8),
        turn("say nothing", Answer(""), seq=9),
    )
    body = server.requests[0].body
    shown = body.get("messages") or body["input"]
    texts = [item.get("content", item.get("output")) for item in shown]
    story = ["a story", "Once [stopped by the user]", "say nothing", "(nothing)", "hello"]
    assert [text for text in texts if text][-9:] == [
        "the time?", "noon", "b", "It is noon", *story,
    ]  # fmt: skip
    # Each call and its result share an id, which is unique.
    ids = Counter(re.findall(r'"(call\d+)"', json.dumps(shown)))
    assert [*ids.values()] == [2, 2]
    # Mistral accepts no other ids.
    assert all(re.fullmatch(r"[a-zA-Z0-9]{9}", call_id) for call_id in ids)


async def test_the_model_is_shown_a_history_that_the_client_keeps(
    model: ChatModel, server: ModelServer
) -> None:
    message = ChatMessage(
        user_id="alice",
        text="three",
        history=(("system", "Be brief."), ("user", "one"), ("assistant", "two")),
    )
    await ChatAgent(model).answer(message, 5, [])
    shown = server.requests[0].body.get("messages") or server.requests[0].body["input"]
    told = [(item["role"], item["content"]) for item in shown]
    assert (told[-4][0], told[-3]) == ("system", ("user", "one"))
    assert told[-4][1].endswith("Be brief.")
    assert told[-2][0] == "assistant"
    assert "two" in str(told[-2][1])
    assert told[-1] == ("user", "three")


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault(429), LimitReached),
        (Fault(401), Misconfigured),
        (Fault(403), Misconfigured),
        (Fault(404), Misconfigured),
        (Fault(400), Failed),
        (Fault(422), Failed),
        (Fault(500), Unavailable),
        (Fault(503), Unavailable),
        (Fault(drop=True), Unavailable),
    ],
    ids=str,
)
async def test_a_failure_of_the_host_has_its_own_error(
    model: ChatModel, server: ModelServer, fault: Fault, expected: type[DomainError]
) -> None:
    server.faults = [fault] * 9
    with pytest.raises(expected) as failure:
        await ask(model)
    assert fault.message not in str(failure.value)
    assert len(server.requests) <= 2


async def test_a_stream_that_is_silent_for_too_long_has_failed(
    model: ChatModel, server: ModelServer
) -> None:
    server.faults = [Fault(delay_s=TIMEOUT_S + 1)] * 9
    with pytest.raises(TimedOut):
        await ask(model, say=lambda piece: None)
    assert len(server.requests) == 2


async def test_a_whole_answer_may_take_as_long_as_a_chat(
    model: ChatModel, server: ModelServer
) -> None:
    server.faults = [Fault(delay_s=TIMEOUT_S + 1)]
    assert "alice" in await ask(model)
    assert len(server.requests) == 1


@pytest.mark.parametrize("nonsense", ["", "<html>", "{}", "[]", "null", '"x"', '{"choices": []}'])
async def test_a_host_that_answers_nonsense_is_a_known_failure(
    model: ChatModel, server: ModelServer, nonsense: str
) -> None:
    server.faults = [Fault(nonsense=nonsense)] * 9
    with pytest.raises(DomainError):
        await ask(model)


@pytest.mark.parametrize("fault", [Fault(500), Fault(429), Fault(drop=True)], ids=str)
async def test_one_temporary_failure_is_retried(
    model: ChatModel, server: ModelServer, fault: Fault
) -> None:
    server.faults = [fault]
    assert "alice" in await ask(model)


async def test_a_failing_host_is_not_flooded_with_retries(
    model: ChatModel, server: ModelServer
) -> None:
    server.faults = [Fault(503)] * 1000
    for _ in range(100):
        with pytest.raises(Unavailable):
            await ask(model)
    assert 100 < len(server.requests) <= 110


async def test_endless_tool_calls_end(model: ChatModel, server: ModelServer) -> None:
    server.always_calls_tool = True
    with pytest.raises(Failed):
        await ask(model)
    assert len(server.requests) < 20


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500])
async def test_the_key_shows_neither_in_errors_nor_in_logs(
    model: ChatModel, server: ModelServer, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    server.faults = [Fault(status, message=f"Incorrect API key provided: {KEY}")] * 9
    with pytest.raises(DomainError) as failure:
        await ask(model)
    assert KEY in server.requests[0].headers["authorization"]
    assert KEY not in f"{failure.value!r} {failure.value.__cause__!r}"
    assert KEY not in caplog.text
    assert "no reply" in caplog.text


def test_instructions_make_no_claim_about_a_count_that_is_not_known() -> None:
    agent = agents.Agent[RunContext](name="any")
    told = [
        instructions(agents.RunContextWrapper(RunContext("alice", count)), agent)
        for count in (None, 0)
    ]
    assert "is not known at the moment" in told[0]
    assert "The user has sent" not in told[0]
    assert "The user has sent 0 messages before this one." in told[1]


def test_an_earlier_tool_call_without_output_is_shown_with_a_text() -> None:
    said = turn("What is there?", Answer("Nothing.", (ToolCall("look", "{}"),)))
    (output,) = (i for i in items_of([], [said], with_tools=True) if "output" in i)
    assert output["output"] == "(nothing)"
